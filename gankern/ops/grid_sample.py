"""grid_sample: images read at any points, by bilinear interpolation; and affine_grid, which makes the points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import grid_sample as reference


def grid_sample(
    x: torch.Tensor, grid: torch.Tensor, align_corners: bool = False, *, backend: str | None = None
) -> torch.Tensor:
    """Samples each image at the points of a grid: y[n, c, i, j] = x[n, c] at grid[n, i, j], interpolated bilinearly.

    A point is (x, y), -1 and 1 being the edges of the image: its position in pixels is ((x + 1) W - 1) / 2. Pixels
    outside the image are zero.

    Args:
        x: Images [N, C, H, W], float64, float32, bfloat16 or float16, any strides.
        grid: Points [N, h, w, 2], of the dtype of x or float32, on the device of x. Any number is safe: points far
            outside give zero, and one that is infinite or NaN gives NaN.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels instead: (x + 1) (W - 1) / 2.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, h, w] of the dtype of x; channels_last if x is, else contiguous.

    Raises:
        TypeError: x or grid is not of a dtype named above.
        ValueError: grid does not fit x.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and grid, to any order. That of grid jumps where a point crosses a pixel's centre. On the GPU the
        gradient of x is a sum in no fixed order (atomic additions), so two runs may differ by rounding: an error under
        `torch.use_deterministic_algorithms(True)`.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types, positions included.
    Source: Jaderberg et al., "Spatial Transformer Networks", 2015, section 3.3; as part of augmentation Karras et
        al., "Training Generative Adversarial Networks with Limited Data", 2020, appendix B.
    """
    checks.check_image("grid_sample", x)
    _check_grid(x, grid)
    chosen = dispatch.choose("grid_sample", x.device.type, backend)
    if chosen == "eager":
        return reference.grid_sample(x, grid, bool(align_corners))
    return library.ops(chosen).grid_sample(x, grid, bool(align_corners))


def affine_grid(theta: torch.Tensor, size: Sequence[int], align_corners: bool = False) -> torch.Tensor:
    """The points of affinely mapped images, for `grid_sample`: grid[n, i, j] = theta[n] (x_j, y_i, 1).

    (x_j, y_i) is the centre of pixel (i, j) of the result, the image reaching from -1 to 1.

    Args:
        theta: Affine maps [N, 2, 3], float64, float32, bfloat16 or float16.
        size: Of the result of `grid_sample`, (N, C, h, w).
        align_corners: As in `grid_sample`.

    Returns:
        Tensor [N, h, w, 2] of the dtype of theta.

    Raises:
        TypeError: theta is not of a floating-point dtype.
        ValueError: theta does not have shape [N, 2, 3], or size is not (N, C, h, w) with the same N.

    Gradients: theta, to any order.
    Backends: eager, two calls. Nothing is read from the device.
    Source: Jaderberg et al., "Spatial Transformer Networks", 2015, section 3.2.
    """
    checks.check_floating("affine_grid", "theta", theta)
    if theta.ndim != 3 or theta.shape[1:] != (2, 3):
        raise checks.bad_value("affine_grid", "theta", "have shape [N, 2, 3]", list(theta.shape))
    size = tuple(size) if isinstance(size, Sequence) else (size,)
    if len(size) != 4 or size[0] != theta.shape[0] or size[2] < 1 or size[3] < 1:
        raise checks.bad_value("affine_grid", "size", f"be (N, C, h, w) with N = {theta.shape[0]}", size)
    return reference.affine_grid(theta, (size[2], size[3]), bool(align_corners))


def _check_grid(x: torch.Tensor, grid: Any) -> None:
    checks.check_floating("grid_sample", "grid", grid)
    if grid.dtype not in (x.dtype, torch.float32):
        raise checks.bad_type("grid_sample", "grid", f"be of the dtype of x, {x.dtype}, or float32", grid.dtype)
    if grid.ndim != 4 or grid.shape[0] != x.shape[0] or grid.shape[3] != 2 or 0 in grid.shape[1:3]:
        expected = f"have shape [N, h, w, 2] with N = {x.shape[0]}, h >= 1 and w >= 1"
        raise checks.bad_value("grid_sample", "grid", expected, f"{list(grid.shape)} (x is {list(x.shape)})")
    checks.check_same_device("grid_sample", "grid", grid, x)


def _images(like: torch.Tensor, h: int, w: int, channels_last: bool) -> torch.Tensor:
    """Nobody's images [N, C, h, w], N, C, dtype and device being those of `like`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty([*like.shape[:2], h, w], dtype=like.dtype, device=like.device, memory_format=layout)


def _fake(x: torch.Tensor, grid: torch.Tensor, align_corners: bool) -> torch.Tensor:
    return _images(x, grid.shape[1], grid.shape[2], library.memory_format(x) is torch.channels_last)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, grid, ctx.align_corners = inputs
    ctx.size, ctx.channels_last = x.shape[2:], library.memory_format(x) is torch.channels_last
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, grid)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return None, None, None
    x, grid = ctx.saved_tensors
    want_dx, want_dgrid = ctx.needs_input_grad[0], library.wanted(ctx, 1)
    if want_dx and dy.device.type == "cuda":
        checks.check_deterministic("grid_sample", "for on the GPU the gradient of x is a sum in no fixed order")
    options = (*ctx.size, ctx.channels_last, ctx.align_corners, want_dx)
    dx, dgrid = ops.grid_sample_backward(dy, x if want_dgrid else None, grid, *options)
    return dx if want_dx else None, dgrid if want_dgrid else None, None


library.define(
    "grid_sample",
    "(Tensor x, Tensor grid, bool align_corners) -> Tensor",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
)


def _fake_backward(
    dy: torch.Tensor,
    x: torch.Tensor | None,
    grid: torch.Tensor,
    h: int,
    w: int,
    channels_last: bool,
    align_corners: bool,
    input_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    dx = _images(dy, h, w, channels_last) if input_gradient else dy.new_empty([0])
    return dx, grid.new_empty(grid.shape if x is not None else [0])


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    dy, x, grid, *ctx.options, ctx.input_gradient = inputs
    ctx.save_for_backward(dy if x is not None or ctx.needs_input_grad[2] else None, x, grid)


def _backward_backward(ctx: Any, ops: Any, ddx: torch.Tensor | None, ddgrid: torch.Tensor | None) -> tuple:
    """dx is linear in dy, and its derivative the same kernels; dgrid's is plain PyTorch, for no GAN's path needs it."""
    dy, x, grid = ctx.saved_tensors
    h, w, channels_last, align_corners = ctx.options
    want_dy, want_x, want_grid = ctx.needs_input_grad[:3]
    grad_dy = grad_x = grad_grid = None
    if ddx is not None and ctx.input_gradient:
        if want_dy:
            grad_dy = ops.grid_sample(ddx, grid, align_corners)
        if want_grid:
            options = (h, w, channels_last, align_corners, False)
            grad_grid = ops.grid_sample_backward(dy, ddx, grid, *options)[1]
    if ddgrid is not None and x is not None:
        of_dy, of_x, of_grid = reference.grid_gradient_backward(ddgrid, dy, x, grid, align_corners)
        if want_dy:
            grad_dy = of_dy() if grad_dy is None else grad_dy + of_dy()
        if want_x:
            grad_x = of_x()
        if want_grid:
            grad_grid = of_grid() if grad_grid is None else grad_grid + of_grid()
    return grad_dy, grad_x, grad_grid, None, None, None, None, None


library.define(
    "grid_sample_backward",
    "(Tensor dy, Tensor? x, Tensor grid, SymInt h, SymInt w, bool channels_last, bool align_corners, "
    "bool input_gradient) -> (Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
