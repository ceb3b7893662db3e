"""winograd: 3x3 convolution in a quarter of the multiplications, with a layer's scales and tail in its two passes.

The kernels are raw ops, which the convolutions of the library call; all take images of float32, bfloat16 or float16, in
NCHW or channels_last, and compute in float32:

- `winograd_conv2d(x, w, py, px, transposed, scale, out_scale, noise, strength, b, act, alpha, gain, clamp) -> y` with
  y = clamp(gain * f(out_scale * conv2d(scale * x, w) + strength * noise + b)): w [O, I, 3, 3] or, `transposed`, [I, O,
  3, 3] to be rotated by 180 degrees, as for the input gradient; scale [N, I], out_scale [N, O], noise [N or 1, 1, H, W]
  of the result, strength a single number, b [O], each of any floating dtype or None.
- `winograd_weight_gradient(x, dy, py, px, scale, dy_scale) -> dw`, of float32, of conv2d(scale * x, w) for the
  gradient dy_scale * dy.

Derivatives: `winograd` and, without scales, `winograd_weight_gradient` have them to any order. `winograd_conv2d` has
none: who calls it owns the derivative.

Accuracy: the error is at most 2e-5 of the largest output, up to 512 channels (in practice below 5e-6). An Inf or NaN of
the input makes all outputs of the tiles that read it NaN: up to 4 pixels further than in a direct convolution, at
multiples of 4. So may values beyond 1e37. The result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import winograd as reference


def winograd(
    x: torch.Tensor, w: torch.Tensor, padding: int | Sequence[int] = 1, *, backend: str | None = None
) -> torch.Tensor:
    """Convolves with a 3x3 kernel at stride 1: y = conv2d(x, w, padding=padding).

    Args:
        x: Images [N, I, H, W]; float32, bfloat16 or float16, with backend='eager' also float64; any strides.
        w: Weights [O, I, 3, 3] of any of these dtypes.
        padding: Zeros around x, 0 to 2, or [y, x].
        backend: 'native' or 'eager'; None chooses.

    Returns:
        Tensor [N, O, H + 2 padding - 2, W + 2 padding - 2] of the dtype and memory format of x.

    Raises:
        TypeError: x or w is not of a dtype named above.
        ValueError: the shapes do not fit, or padding is not in [0, 2].
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and w, to any order.
    Backends: native (CPU), eager. Arithmetic in float32.
    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4; Toom-Cook points
        0, +-sqrt(1/2), +-sqrt(2), infinity.
    """
    checks.check_image("winograd", x)
    checks.check_floating("winograd", "w", w)
    if w.ndim != 4 or w.shape[2:] != (3, 3) or w.shape[1] != x.shape[1]:
        raise checks.bad_value("winograd", "w", f"have shape [O, I, 3, 3] = [O, {x.shape[1]}, 3, 3]", list(w.shape))
    if w.numel() == 0:
        raise checks.bad_value("winograd", "w", "have O >= 1 and I >= 1", list(w.shape))
    checks.check_same_device("winograd", "w", w, x)
    py, px = _parse_padding(padding)
    if x.shape[2] + 2 * py < 3 or x.shape[3] + 2 * px < 3:
        raise checks.bad_value("winograd", "x", "be at least 3x3 with its padding", list(x.shape))
    chosen = dispatch.choose("winograd", x.device.type, backend)
    if chosen == "eager":
        return reference.winograd(x, w, (py, px), False)
    if x.dtype == torch.float64:
        raise checks.bad_type("winograd", "x", "be float32, bfloat16 or float16 unless backend='eager'", x.dtype)
    return library.ops(chosen).winograd(x, w, py, px, False)


def _parse_padding(padding: Any) -> tuple[int, int]:
    pair = tuple(padding) if isinstance(padding, Sequence) else (padding, padding)
    if len(pair) != 2 or not all(checks.is_integer(p) and 0 <= p <= 2 for p in pair):
        raise checks.bad_value("winograd", "padding", "be in [0, 2], or two such numbers", repr(padding))
    return pair


def _fake_conv2d(x: torch.Tensor, o: int, py: int, px: int) -> torch.Tensor:
    n, _, h, w = x.shape
    shape = [n, o, h + 2 * py - 2, w + 2 * px - 2]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=library.memory_format(x))


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, w, ctx.py, ctx.px, ctx.transposed = inputs
    ctx.save_for_backward(x, w)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 5
    x, w = ctx.saved_tensors
    py, px = ctx.py, ctx.px
    dx = ops.winograd(dy, w, 2 - py, 2 - px, not ctx.transposed) if library.wanted(ctx, 0) else None
    dw = None
    if library.wanted(ctx, 1):
        if ctx.transposed:
            dw = ops.winograd_weight_gradient(dy, x, 2 - py, 2 - px, None, None)
        else:
            dw = ops.winograd_weight_gradient(x, dy, py, px, None, None)
        dw = dw.to(w.dtype)
    return dx, dw, None, None, None


library.define(
    "winograd",
    "(Tensor x, Tensor w, int py, int px, bool transposed) -> Tensor",
    fake=lambda x, w, py, px, transposed: _fake_conv2d(x, w.shape[1 if transposed else 0], py, px),
    setup_context=_setup_context,
    backward=_backward,
    parameters=(1,),
)


def _setup_weight_gradient_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, dy, ctx.py, ctx.px, scale, dy_scale = inputs
    ctx.scaled = scale is not None or dy_scale is not None
    ctx.save_for_backward(x, dy)


def _weight_gradient_backward(ctx: Any, ops: Any, ddw: torch.Tensor | None) -> tuple:
    """It is linear in x and in dy, with ddw in the place of the weights."""
    if ddw is None:
        return (None,) * 6
    if ctx.scaled:
        raise RuntimeError("gankern.winograd_weight_gradient: scale and dy_scale must be None where it is derived")
    x, dy = ctx.saved_tensors
    dx = ops.winograd(dy, ddw, 2 - ctx.py, 2 - ctx.px, True) if library.wanted(ctx, 0) else None
    ddy = ops.winograd(x, ddw, ctx.py, ctx.px, False) if library.wanted(ctx, 1) else None
    return dx, ddy, None, None, None, None


library.define(
    "winograd_weight_gradient",
    "(Tensor x, Tensor dy, int py, int px, Tensor? scale, Tensor? dy_scale) -> Tensor",
    fake=lambda x, dy, *rest: x.new_empty([dy.shape[1], x.shape[1], 3, 3], dtype=torch.float32),
    setup_context=_setup_weight_gradient_context,
    backward=_weight_gradient_backward,
)


def _no_derivative(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    raise RuntimeError("gankern.winograd_conv2d has no derivative: its caller owns it")


library.define(
    "winograd_conv2d",
    "(Tensor x, Tensor w, int py, int px, bool transposed, Tensor? scale, Tensor? out_scale, Tensor? noise, "
    "Tensor? strength, Tensor? b, str act, float alpha, float gain, float? clamp) -> Tensor",
    fake=lambda x, w, py, px, transposed, *rest: _fake_conv2d(x, w.shape[1 if transposed else 0], py, px),
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
