"""winograd_strided: 3x3 convolution at stride 2 and its transpose, in little more than half of the multiplications.

The kernels are raw ops, which the convolutions of the library call; all take images of float32, bfloat16 or float16, in
NCHW or channels_last, and compute in float32. `large` is the image at full resolution, `small` the one at half:

- `winograd_strided_conv2d(x, w, py, px, transposed, extra_y, extra_x, scale, out_scale) -> y` with
  y = out_scale * conv(scale * x, w): from large to small, w [O, I, 3, 3], or `transposed` from small to large with
  `extra` rows and columns of output padding, w [I, O, 3, 3]; scale [N, I], out_scale [N, O] of any floating dtype or
  None.
- `winograd_strided_weight_gradient(large, small, py, px, large_scale, small_scale) -> dw`, of float32, the gradient of
  w [small's channels, large's channels, 3, 3] of both convolutions, with both images scaled.

Derivatives: `winograd_strided` and, without scales, `winograd_strided_weight_gradient` have them to any order.
`winograd_strided_conv2d` has none: who calls it owns the derivative.

Accuracy: the error is at most 2e-5 of the largest output, up to 512 channels (in practice about 5e-6). An Inf or NaN of
the input may make every output of the tiles that read it NaN, which are of 4x4 small and 9x9 large pixels. The result
does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import winograd_strided as reference


def winograd_strided(
    x: torch.Tensor,
    w: torch.Tensor,
    padding: int | Sequence[int] = 0,
    transposed: bool = False,
    output_padding: int | Sequence[int] = 0,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Convolves with a 3x3 kernel at stride 2, y = conv2d(x, w, stride=2, padding=padding), or its transpose.

    Args:
        x: Images [N, I, H, W]; float32, bfloat16 or float16, with backend='eager' also float64; any strides.
        w: Weights [O, I, 3, 3], transposed [I, O, 3, 3], of any of these dtypes.
        padding: Zeros around the larger image, 0 to 2, or [y, x].
        transposed: Whether to compute conv_transpose2d(x, w, stride=2, padding=padding, ...) instead.
        output_padding: Rows and columns that are added to the result if transposed, 0 or 1, or [y, x].
        backend: 'native' or 'eager'; None chooses.

    Returns:
        Tensor [N, O, (H + 2 padding - 3) // 2 + 1, ...], transposed [N, O, 2 H + 1 - 2 padding + output_padding, ...],
        of the dtype and memory format of x.

    Raises:
        TypeError: x or w is not of a dtype named above.
        ValueError: the shapes do not fit, or a number is out of range.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and w, to any order.
    Backends: native (CPU), eager. Arithmetic in float32.
    Source: Winograd, "Arithmetic Complexity of Computations", 1980, chapter III (Toom-Cook, and transposition); points
        0, +-3/4, 2, infinity for the even samples; the odd ones see one weight only.
    """
    op = "winograd_strided"
    checks.check_image(op, x)
    checks.check_floating(op, "w", w)
    names = "[I, O, 3, 3]" if transposed else "[O, I, 3, 3]"
    if w.ndim != 4 or w.shape[2:] != (3, 3) or w.shape[0 if transposed else 1] != x.shape[1]:
        raise checks.bad_value(op, "w", f"have shape {names} with I = {x.shape[1]}", list(w.shape))
    if w.numel() == 0:
        raise checks.bad_value(op, "w", "have O >= 1 and I >= 1", list(w.shape))
    checks.check_same_device(op, "w", w, x)
    py, px = _parse(op, "padding", padding, 2)
    extra = _parse(op, "output_padding", output_padding, 1 if transposed else 0)
    if transposed:
        if 2 * x.shape[2] + 1 - 2 * py + extra[0] < 1 or 2 * x.shape[3] + 1 - 2 * px + extra[1] < 1:
            raise checks.bad_value(op, "padding", "leave a pixel of the result", [py, px])
    elif x.shape[2] + 2 * py < 3 or x.shape[3] + 2 * px < 3:
        raise checks.bad_value(op, "x", "be at least 3x3 with its padding", list(x.shape))
    chosen = dispatch.choose(op, x.device.type, backend)
    if chosen == "eager":
        return reference.winograd_strided(x, w, (py, px), transposed, extra)
    if x.dtype == torch.float64:
        raise checks.bad_type(op, "x", "be float32, bfloat16 or float16 unless backend='eager'", x.dtype)
    return library.ops(chosen).winograd_strided(x, w, py, px, bool(transposed), *extra)


def _parse(op: str, name: str, value: Any, most: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(checks.is_integer(p) and 0 <= p <= most for p in pair):
        raise checks.bad_value(op, name, f"be in [0, {most}], or two such numbers", repr(value))
    return pair


def _fake_conv2d(
    x: torch.Tensor, o: int, py: int, px: int, transposed: bool, extra_y: int, extra_x: int
) -> torch.Tensor:
    n, _, h, w = x.shape
    if transposed:
        size = [2 * h + 1 - 2 * py + extra_y, 2 * w + 1 - 2 * px + extra_x]
    else:
        size = [(h + 2 * py - 3) // 2 + 1, (w + 2 * px - 3) // 2 + 1]
    return torch.empty([n, o, *size], dtype=x.dtype, device=x.device, memory_format=library.memory_format(x))


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, w, ctx.py, ctx.px, ctx.transposed, _, _ = inputs
    ctx.save_for_backward(x, w)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 7
    x, w = ctx.saved_tensors
    small, large = (x, dy) if ctx.transposed else (dy, x)
    dx = dw = None
    if library.wanted(ctx, 0):
        dx = _to_small(ops, dy, w, ctx) if ctx.transposed else _to_large(ops, dy, w, x, ctx)
    if library.wanted(ctx, 1):
        dw = ops.winograd_strided_weight_gradient(large, small, ctx.py, ctx.px, None, None).to(w.dtype)
    return dx, dw, None, None, None, None, None


def _to_small(ops: Any, large: torch.Tensor, w: torch.Tensor, ctx: Any) -> torch.Tensor:
    return ops.winograd_strided(large, w, ctx.py, ctx.px, False, 0, 0)


def _to_large(ops: Any, small: torch.Tensor, w: torch.Tensor, like: torch.Tensor, ctx: Any) -> torch.Tensor:
    """With the output padding that makes the result as large as `like`."""
    extra = (like.shape[d] - (2 * small.shape[d] + 1 - 2 * p) for d, p in ((2, ctx.py), (3, ctx.px)))
    return ops.winograd_strided(small, w, ctx.py, ctx.px, True, *extra)


library.define(
    "winograd_strided",
    "(Tensor x, Tensor w, int py, int px, bool transposed, int extra_y, int extra_x) -> Tensor",
    fake=lambda x, w, py, px, transposed, *extra: _fake_conv2d(
        x, w.shape[1 if transposed else 0], py, px, transposed, *extra
    ),
    setup_context=_setup_context,
    backward=_backward,
    parameters=(1,),
)


def _setup_weight_gradient_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    large, small, ctx.py, ctx.px, large_scale, small_scale = inputs
    ctx.scaled = large_scale is not None or small_scale is not None
    ctx.save_for_backward(large, small)


def _weight_gradient_backward(ctx: Any, ops: Any, ddw: torch.Tensor | None) -> tuple:
    """It is linear in both images, with ddw in the place of the weights."""
    if ddw is None:
        return (None,) * 6
    if ctx.scaled:
        raise RuntimeError("gankern.winograd_strided_weight_gradient: the scales must be None where it is derived")
    large, small = ctx.saved_tensors
    dlarge = _to_large(ops, small, ddw, large, ctx) if library.wanted(ctx, 0) else None
    dsmall = _to_small(ops, large, ddw, ctx) if library.wanted(ctx, 1) else None
    return dlarge, dsmall, None, None, None, None


library.define(
    "winograd_strided_weight_gradient",
    "(Tensor large, Tensor small, int py, int px, Tensor? large_scale, Tensor? small_scale) -> Tensor",
    fake=lambda large, small, *rest: large.new_empty([small.shape[1], large.shape[1], 3, 3], dtype=torch.float32),
    setup_context=_setup_weight_gradient_context,
    backward=_weight_gradient_backward,
)


def _no_derivative(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    raise RuntimeError("gankern.winograd_strided_conv2d has no derivative: its caller owns it")


library.define(
    "winograd_strided_conv2d",
    "(Tensor x, Tensor w, int py, int px, bool transposed, int extra_y, int extra_x, Tensor? scale, "
    "Tensor? out_scale) -> Tensor",
    fake=lambda x, w, py, px, transposed, extra_y, extra_x, *scales: _fake_conv2d(
        x, w.shape[1 if transposed else 0], py, px, transposed, extra_y, extra_x
    ),
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
