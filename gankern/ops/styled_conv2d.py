"""styled_conv2d: a 3x3 convolution with its whole layer inside, for the convolutions of the library to call.

y = clamp(gain * f(dcoefs * conv2d(styles * x, w) + strength * noise + b)), one pass over x on the way in and one over y
on the way out: the input transform of Winograd's algorithm multiplies by the styles, the output transform does the
rest. Neither the modulated input nor the convolution's own result exists in memory, forward or backward:

- the activation is piecewise linear, u -> slope * u, so the sums that the gradients of dcoefs, strength and b need
  follow from y alone: sum(du * u) = sum(dy * y);
- the weight gradient scales x by the styles as it reads it.

Without styles and dcoefs every derivative is made of ops that have their own. With them, a derivative that is itself
to be differentiated (path length) goes through the layer's parts, `styled_bias_act` and `conv2d`, once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import convolution, dispatch, library

LINEAR = ("linear", 0.0, 1.0, None)
HOMOGENEOUS = ("linear", "relu", "lrelu")  # f(u) is a multiple of u on either side of zero


def fits(
    x: torch.Tensor,
    w: torch.Tensor,
    padding: list[int],
    act: str,
    alpha: float,
    gain: float,
    strength: torch.Tensor | None,
    backend: str | None,
) -> bool:
    """Whether this op is the fastest way to compute such a layer; arguments as in `gankern.modulated_conv2d`."""
    if x.device.type != "cpu" or act not in HOMOGENEOUS or not (alpha >= 0 and gain > 0):
        return False
    if strength is not None and strength.ndim != 0:
        return False
    if any(dispatch.choose(op, "cpu", backend) != "native" for op in ("conv2d", "styled_bias_act", "winograd")):
        return False
    return convolution.is_winograd(x, w, padding) and not torch.is_autocast_enabled("cpu")


def styled_conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    styles: torch.Tensor | None,
    dcoefs: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    padding: list[int],
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """The layer, where it `fits`: w [O, I, 3, 3], styles [N, I], dcoefs [N, O], noise [H, W] or [1 or N, 1, H, W].

    Nothing but x and y is rounded to the dtype of x: weights and their gradients stay as they are.
    """
    small = [t if t is None else t.float() for t in (styles, dcoefs, noise, strength, b)]
    if small[2] is not None and small[2].ndim == 2:
        small[2] = small[2][None, None]  # [1, 1, H, W]
    clamp = None if clamp is None else float(clamp)
    return torch.ops.gankern.styled_conv2d(x, w, *small, padding, act, float(alpha), float(gain), clamp)


def _forward(ops: Any, x: torch.Tensor, w: torch.Tensor, *layer: Any) -> torch.Tensor:
    styles, dcoefs, noise, strength, b, padding, *options = layer
    return convolution.winograd(x, w, padding, False, (styles, dcoefs, noise, strength, b, *options))


def _fake(x: torch.Tensor, w: torch.Tensor, *layer: Any) -> torch.Tensor:
    return torch.ops.aten.convolution(x, w.to(x.dtype), None, [1, 1], layer[5], [1, 1], False, [0, 0], 1)


def _setup_context(ctx: Any, inputs: tuple, y: torch.Tensor) -> None:
    x, w, styles, dcoefs, noise, strength, b, ctx.padding, *ctx.options = inputs
    ctx.save_for_backward(x, w, styles, dcoefs, noise, strength, b, y)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 12
    wanted = [library.wanted(ctx, i) for i in range(7)]
    if not torch.is_grad_enabled() and not wanted[4]:
        gradients = ops.styled_conv2d_backward(dy, *ctx.saved_tensors, ctx.padding, *ctx.options, wanted)
    elif all(t is None for t in ctx.saved_tensors[2:6]):
        gradients = _of_convolution(ctx, ops, dy, wanted)
    else:
        gradients = _through_parts(ctx, ops, dy, wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), *(None,) * 5


def _of_convolution(ctx: Any, ops: Any, dy: torch.Tensor, wanted: list[bool]) -> tuple:
    """Of a convolution with bias and activation, by ops that can be differentiated further."""
    x, w, *_, y = ctx.saved_tensors
    dz, db = ops.bias_act_backward(dy, y, None, 1, *ctx.options, wanted[6])
    dx = ops.conv_transpose2d(dz, w.to(dz.dtype), [1, 1], ctx.padding, [0, 0], [1, 1], 1) if wanted[0] else None
    dw = None
    if wanted[1]:
        is_last = _format(w) == torch.channels_last
        dw = ops.conv2d_weight_gradient(x, dz, w.shape, [1, 1], ctx.padding, [1, 1], 1, is_last).to(w.dtype)
    return dx, dw, None, None, None, None, db


def _through_parts(ctx: Any, ops: Any, dy: torch.Tensor, wanted: list[bool]) -> tuple:
    """By autograd through the ops that the layer is made of."""
    inputs = ctx.saved_tensors[:7]

    def layer(*needed: torch.Tensor) -> list[torch.Tensor]:
        of_needed = iter(needed)
        x, w, styles, dcoefs, *tail = (next(of_needed) if want else t for t, want in zip(inputs, wanted, strict=True))
        x = x if styles is None else ops.styled_bias_act(x, styles, None, None, None, *LINEAR)
        x = ops.conv2d(x, w.to(x.dtype), [1, 1], ctx.padding, [1, 1], 1)
        return [ops.styled_bias_act(x, dcoefs, *tail, *ctx.options)]

    found = iter(library.differentiate(layer, [t for t, want in zip(inputs, wanted, strict=True) if want], [dy]))
    return tuple(next(found) if want else None for want in wanted)


def _format(w: torch.Tensor) -> torch.memory_format:
    is_last = not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format


library.define(
    "styled_conv2d",
    "(Tensor x, Tensor w, Tensor? styles, Tensor? dcoefs, Tensor? noise, Tensor? strength, Tensor? b, "
    "SymInt[] padding, str act, float alpha, float gain, float? clamp) -> Tensor",
    fake=_fake,
    composite=_forward,
    setup_context=_setup_context,
    backward=_backward,
    parameters=(1, 5, 6),
)


def _through_tail(
    ops: Any, dy: torch.Tensor, y: torch.Tensor, tail: Sequence, options: tuple, wanted: list[bool]
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of the convolution's own result, and of dcoefs, strength and b, from y alone."""
    dcoefs, noise, strength, b = tail
    of_dcoefs, of_strength, of_b = wanted
    noise = noise if of_dcoefs or of_strength else None
    if dcoefs is None and noise is None and (options[0], *options[2:]) == ("linear", 1, None):
        return dy, None, None, dy.sum([0, 2, 3], dtype=torch.float32) if of_b else None
    dz, of_u, of_noise, of_one = ops.styled_conv2d_tail_backward(dy, y, dcoefs, noise, *options)  # sums: [N, O]
    d_dcoefs = None
    if of_dcoefs:  # dcoefs * conv = u - strength * noise - b
        of_u = of_u if b is None else of_u - of_one * b
        of_u = of_u if noise is None else of_u - (of_noise if strength is None else of_noise * strength)
        d_dcoefs = of_u / dcoefs  # [N, O]
    return dz, d_dcoefs, of_noise.sum() if of_strength else None, of_one.sum(0) if of_b else None


def _gradients(ops: Any, dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    """Of all inputs but the noise, from x and y; empty tensors for what is not wanted."""
    styles, *tail, y, padding, act, alpha, gain, clamp, wanted = rest
    of_x, of_w, of_styles, of_dcoefs, _, of_strength, of_b = wanted
    of_tail = [of_dcoefs, of_strength, of_b]
    dz, d_dcoefs, d_strength, d_b = _through_tail(ops, dy, y, tail, (act, alpha, gain, clamp), of_tail)
    dx = d_styles = dw = None
    if of_x or of_styles:
        dx = convolution.transpose(dz, w, padding)  # [N, I, H, W]
        if styles is not None:
            read = x if of_styles else None
            dx, d_styles, _, _ = ops.styled_bias_act_backward(dx, None, read, styles, None, *LINEAR, False)
    if of_w:
        dw = ops.winograd_weight_gradient(x, dz, *padding, styles, None).to(w.dtype)
        dw = dw.contiguous(memory_format=_format(w))
    found = (dx, dw, d_styles, d_dcoefs, None, d_strength, d_b)
    return tuple(x.new_empty([0]) if t is None else t for t in found)


def _fake_gradients(ops: Any, x: torch.Tensor, w: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    inputs, y, wanted = [x, w, *rest[:5]], rest[5], rest[-1]
    formats = {0: torch.channels_last if torch.channels_last in (_format(y), _format(w)) else None, 1: _format(w)}

    def gradient(i: int) -> torch.Tensor:
        if not wanted[i] or i == 4:
            return x.new_empty([0])
        return torch.empty_like(inputs[i], memory_format=formats.get(i) or torch.contiguous_format)

    return tuple(gradient(i) for i in range(7))


library.define(
    "styled_conv2d_backward",
    "(Tensor dy, Tensor x, Tensor w, Tensor? styles, Tensor? dcoefs, Tensor? noise, Tensor? strength, Tensor? b, "
    "Tensor y, SymInt[] padding, str act, float alpha, float gain, float? clamp, bool[] wanted) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_gradients,
    composite=_gradients,
)


def _fake_tail_backward(
    dy: torch.Tensor, y: torch.Tensor, scale: torch.Tensor | None, noise: torch.Tensor | None, *options: Any
) -> tuple[torch.Tensor, ...]:
    def sums(wanted: bool) -> torch.Tensor:
        return y.new_empty(y.shape[:2] if wanted else [0], dtype=torch.float32)

    dx = torch.empty_like(y, memory_format=library.memory_format(y))
    return dx, sums(True), sums(noise is not None), sums(True)


library.define(
    "styled_conv2d_tail_backward",
    "(Tensor dy, Tensor y, Tensor? scale, Tensor? noise, str act, float alpha, float gain, float? clamp) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_tail_backward,
)
