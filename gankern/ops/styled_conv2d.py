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
    return convolution.is_winograd(x, w.shape, padding) and not torch.is_autocast_enabled("cpu")


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
    inputs = ctx.saved_tensors[:7]
    wanted = [library.wanted(ctx, i) for i in range(7)]
    if all(t is None for t in inputs[2:6]):
        gradients = _of_conv(ctx, ops, dy, wanted)
    elif torch.is_grad_enabled() or wanted[4]:
        gradients = _through_parts(ctx, ops, dy, wanted)
    else:
        gradients = _of_layer(ctx, ops, dy, wanted)
    return *(g if want else None for g, want in zip(gradients, wanted, strict=True)), *(None,) * 5


def _of_conv(ctx: Any, ops: Any, dy: torch.Tensor, wanted: list[bool]) -> tuple:
    """Of a convolution with bias and activation, by ops that can be differentiated further."""
    x, w, *_, y = ctx.saved_tensors
    dz, db = ops.bias_act_backward(dy, y, None, 1, *ctx.options, wanted[6])
    if not torch.is_grad_enabled():
        dx = convolution.transpose(dz, w, ctx.padding) if wanted[0] else None
        return dx, _weight_gradient(ctx, x, dz, None) if wanted[1] else None, None, None, None, None, db
    dx = ops.conv_transpose2d(dz, w.to(dz.dtype), [1, 1], ctx.padding, [0, 0], [1, 1], 1) if wanted[0] else None
    dw = None
    if wanted[1]:
        dw = ops.conv2d_weight_gradient(x, dz, w.shape, [1, 1], ctx.padding, [1, 1], 1, _is_channels_last(w)).to(w.dtype)
    return dx, dw, None, None, None, None, db


def _of_layer(ctx: Any, ops: Any, dy: torch.Tensor, wanted: list[bool]) -> tuple:
    """Of everything but the noise, from x and y: what no further derivative is wanted of."""
    x, w, styles, dcoefs, noise, strength, b, y = ctx.saved_tensors
    read = noise if noise is not None and (wanted[3] or wanted[5]) else None
    dz, of_u, of_noise, of_one = ops.styled_conv2d_tail_backward(dy, y, dcoefs, read, *ctx.options)
    d_dcoefs = None
    if wanted[3]:  # dcoefs * conv = u - strength * noise - b
        added = of_one * b if b is not None else torch.zeros_like(of_u)
        if read is not None:
            added = added + (of_noise if strength is None else of_noise * strength)
        d_dcoefs = (of_u - added) / dcoefs  # [N, O]
    dx, d_styles = None, None
    if wanted[0] or wanted[2]:
        dx = convolution.transpose(dz, w, ctx.padding)
        if styles is not None:
            dx, d_styles, _, _ = ops.styled_bias_act_backward(
                dx, None, x if wanted[2] else None, styles, None, *LINEAR, False
            )
    dw = _weight_gradient(ctx, x, dz, styles) if wanted[1] else None
    return dx, dw, d_styles, d_dcoefs, None, of_noise.sum() if wanted[5] else None, of_one.sum(0)


def _weight_gradient(ctx: Any, x: torch.Tensor, dz: torch.Tensor, styles: torch.Tensor | None) -> torch.Tensor:
    w = ctx.saved_tensors[1]
    dw = torch.ops.gankern.winograd_weight_gradient(x, dz, *ctx.padding, styles, None).to(w.dtype)
    return dw.contiguous(memory_format=torch.channels_last) if _is_channels_last(w) else dw


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


def _is_channels_last(w: torch.Tensor) -> bool:
    return not w.is_contiguous() and w.is_contiguous(memory_format=torch.channels_last)


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
