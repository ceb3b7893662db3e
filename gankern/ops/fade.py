"""fade: progressive growing, where a new resolution fades into the image or the features of the old one."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import fade as reference

Alpha = torch.Tensor | float


def fade(new: torch.Tensor, old: torch.Tensor, alpha: Alpha, *, backend: str | None = None) -> torch.Tensor:
    """Fades new images or features in: y = alpha * new + (1 - alpha) * old, in one pass over memory.

    In a generator `old` is the image of half the size, doubled by nearest neighbour on the way; in a discriminator
    the features of the half-size image, as many as the new block's: fade(block(x), fromrgb(avg_pool2d(img, 2)), alpha).

    Args:
        new: Images or features [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        old: What they fade into, [N, C, H, W] or [N, C, H / 2, W / 2], of the dtype of new.
        alpha: From 0, the old ones, to 1, the new ones: a number, or a tensor [] on the device of new, whose value
            the host does not read from a GPU.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, H, W] of the dtype of new; channels_last if new is, else contiguous.

    Raises:
        TypeError: a tensor is not of a dtype named above, alpha is no number.
        ValueError: the shapes do not fit.
        RuntimeError: the backend was forced and cannot run.

    Gradients: new, old and, if it requires one, alpha, to any order.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 2, figure 2.
    """
    _check("fade", "new", new, alpha)
    checks.check_tensor("fade", "old", old)
    if old.dtype != new.dtype:
        raise checks.bad_type("fade", "old", f"be of the dtype of new, {new.dtype}", old.dtype)
    n, c, h, w = new.shape
    halves = [n, c, h // 2, w // 2] if h % 2 == 0 and w % 2 == 0 else None
    if list(old.shape) not in ([n, c, h, w], halves):
        expected = f"have shape {[n, c, h, w]}" + (f" or {halves}" if halves else "")
        raise checks.bad_value("fade", "old", expected, list(old.shape))
    checks.check_same_device("fade", "old", old, new)
    return _fade(new, old, alpha, backend)


def fade_detail(x: torch.Tensor, alpha: Alpha, *, backend: str | None = None) -> torch.Tensor:
    """Fades the finest details of images in: y = alpha * x + (1 - alpha) * nearest_up(avg_pool2d(x, 2)), in one pass.

    It makes real images look like those of a generator whose new resolution fades in.

    Args:
        x: Images [N, C, H, W] of even size; float64, float32, bfloat16 or float16, any strides.
        alpha: From 0, no details, to 1, x itself: as in `fade`.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor of the shape and dtype of x; channels_last if x is, else contiguous.

    Raises:
        TypeError: x is not of a dtype named above, alpha is no number.
        ValueError: x is not of even size, alpha has a dimension.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and, if it requires one, alpha, to any order.
    Backends: as `fade`.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 2, figure 2.
    """
    _check("fade_detail", "x", x, alpha)
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise checks.bad_value("fade_detail", "x", "have an even height and width", list(x.shape))
    return _fade(x, None, alpha, backend)


def _check(op: str, argument: str, new: Any, alpha: Any) -> None:
    checks.check_floating(op, argument, new)
    if new.ndim != 4 or new.shape[2] < 1 or new.shape[3] < 1:
        raise checks.bad_value(op, argument, "have 4 dimensions [N, C, H, W], H and W at least 1", list(new.shape))
    if not isinstance(alpha, torch.Tensor):
        return checks.check_number(op, "alpha", alpha)
    checks.check_floating(op, "alpha", alpha)
    if alpha.ndim != 0:
        raise checks.bad_value(op, "alpha", "be a number or a tensor without dimensions", list(alpha.shape))
    return checks.check_same_device(op, "alpha", alpha, new)


def _fade(new: torch.Tensor, old: torch.Tensor | None, alpha: Alpha, backend: str | None) -> torch.Tensor:
    chosen = dispatch.choose("fade", new.device.type, backend)
    if chosen == "eager":
        return reference.fade(new, old, alpha if isinstance(alpha, torch.Tensor) else float(alpha))
    weight, number = (alpha, 0.0) if isinstance(alpha, torch.Tensor) else (None, float(alpha))
    return library.ops(chosen).fade(new, old, weight, number)


def _empty(t: torch.Tensor, shape: Any) -> torch.Tensor:
    return torch.empty(shape, dtype=t.dtype, device=t.device, memory_format=library.memory_format(t))


def _alpha_gradient(dy: torch.Tensor, new: torch.Tensor, old: torch.Tensor | None, alpha: torch.Tensor) -> torch.Tensor:
    wide = torch.float64 if dy.dtype == torch.float64 else torch.float32
    return (dy.to(wide) * (new - reference.in_size_of(new, old)).to(wide)).sum().to(alpha.dtype)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    new, old, alpha, ctx.number = inputs
    ctx.kind = "detail" if old is None else "same" if old.shape == new.shape else "half"
    needed = alpha is not None and alpha.requires_grad
    ctx.save_for_backward(alpha, new if needed else None, old if needed else None)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return None, None, None, None
    alpha, new, old = ctx.saved_tensors
    dnew = dold = dalpha = None
    if ctx.kind == "detail":  # its own transpose
        dnew = ops.fade(dy, None, alpha, ctx.number) if ctx.needs_input_grad[0] else None
    elif ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        dnew, dold = ops.fade_backward(dy, alpha, ctx.number, ctx.kind == "half")
    if new is not None and ctx.needs_input_grad[2]:
        dalpha = _alpha_gradient(dy, new, old, alpha)
    return dnew, dold, dalpha, None


library.define(
    "fade",
    "(Tensor new, Tensor? old, Tensor? alpha, float number) -> Tensor",
    fake=lambda new, old, alpha, number: _empty(new, new.shape),
    setup_context=_setup_context,
    backward=_backward,
)


def _fake_backward(
    dy: torch.Tensor, alpha: torch.Tensor | None, number: float, half: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    n, c, h, w = dy.shape
    return _empty(dy, dy.shape), _empty(dy, [n, c, h // 2, w // 2] if half else dy.shape)


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    dy, alpha, ctx.number, ctx.half = inputs
    ctx.shapes = [t.shape for t in output]
    ctx.save_for_backward(dy, alpha)


def _backward_backward(ctx: Any, ops: Any, ddnew: torch.Tensor | None, ddold: torch.Tensor | None) -> tuple:
    """dnew and dold are the transpose of fade, which is linear in (new, old): the derivative is fade itself."""
    if ddnew is None and ddold is None:
        return None, None, None, None
    dy, alpha = ctx.saved_tensors
    ddnew = dy.new_zeros(ctx.shapes[0]) if ddnew is None else ddnew
    ddold = dy.new_zeros(ctx.shapes[1]) if ddold is None else ddold
    grad_dy = ops.fade(ddnew, ddold, alpha, ctx.number) if ctx.needs_input_grad[0] else None
    grad_alpha = _alpha_gradient(dy, ddnew, ddold, alpha) if ctx.needs_input_grad[1] else None
    return grad_dy, grad_alpha, None, None


library.define(
    "fade_backward",
    "(Tensor dy, Tensor? alpha, float number, bool half) -> (Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
