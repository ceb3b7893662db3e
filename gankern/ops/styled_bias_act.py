"""styled_bias_act: scale, noise, bias, activation, gain and clamp in one pass over memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.ops.bias_act import activation_funcs
from gankern.reference import styled_bias_act as reference

SHAPES = {
    "scale": "[N, C] = [{n}, {c}]",
    "noise": "[H, W], [1, 1, H, W] or [N, 1, H, W] with N, H, W = {n}, {h}, {w}",
    "strength": "[] or [C] = [{c}]",
    "b": "[C] = [{c}]",
}


def styled_bias_act(
    x: torch.Tensor,
    scale: torch.Tensor | None = None,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """The tail of a modulated convolution: scales per sample and channel, adds noise and bias, activates, clamps.

    y[n, c] = clamp(gain * f(scale[n, c] * x[n, c] + strength[c] * noise[n] + b[c]), -clamp, clamp); with nothing but
    `scale` it modulates: y[n, c] = scale[n, c] * x[n, c].

    Args:
        x: Input [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        scale: One factor per sample and channel [N, C] (demodulation coefficients, or styles), or None for 1.
        noise: Added to every channel: [H, W], [1, 1, H, W] or [N, 1, H, W], or None.
        strength: Factor of the noise, a scalar tensor [] or one per channel [C]; None for 1. None without noise.
        b: Bias [C], or None. scale, noise, strength and b are each of the dtype of x or float32.
        act, alpha, gain, clamp: As in `bias_act`.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, H, W] of the dtype of x, channels_last if x is. x itself where there is nothing to do.

    Raises:
        TypeError: a tensor is not of a dtype named above, or a number is not a number.
        ValueError: a shape does not fit, strength comes without noise, `act` is unknown, clamp is negative or NaN.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, scale, noise, strength and b, to any order. The gradient is 0 where the result reaches +-clamp. The
        backward pass is one pass for 'linear', 'relu' and 'lrelu', two for the curved activations, and one more for
        the gradient of the noise.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 2.2 and figure 2d.
    """
    checks.check_image("styled_bias_act", x)
    alpha, gain, clamp = checked_tail(x, x.shape, scale, noise, strength, b, act, alpha, gain, clamp)
    if scale is None and noise is None and b is None and act == "linear" and gain == 1 and clamp is None:
        return x
    chosen = dispatch.choose("styled_bias_act", x.device.type, backend)
    if chosen == "eager":
        return reference.styled_bias_act(x, scale, noise, strength, b, act, alpha, gain, clamp)
    accumulate = torch.float64 if x.dtype == torch.float64 else torch.float32
    scale, noise, strength, b = (
        t if t is None or t.dtype == accumulate else t.to(accumulate) for t in (scale, noise, strength, b)
    )
    if noise is not None and noise.ndim == 2:
        noise = noise[None, None]  # [1, 1, H, W]
    return library.ops(chosen).styled_bias_act(x, scale, noise, strength, b, act, alpha, gain, clamp)


def checked_tail(
    x: torch.Tensor,
    shape: Sequence[int],
    scale: Any,
    noise: Any,
    strength: Any,
    b: Any,
    act: Any,
    alpha: Any,
    gain: Any,
    clamp: Any,
) -> tuple[float, float, float | None]:
    """alpha, gain and clamp with their defaults, if all fits images of a shape, of the dtype and on the device of x."""
    op = "styled_bias_act"
    if act not in tuple(activation_funcs):  # which need not be hashable
        raise checks.bad_value(op, "act", f"be one of {', '.join(activation_funcs)}", repr(act))
    for name, value in (("alpha", alpha), ("gain", gain), ("clamp", clamp)):
        if value is not None:
            checks.check_number(op, name, value)
    if clamp is not None and not clamp >= 0:
        raise checks.bad_value(op, "clamp", "be None or at least 0", clamp)
    if strength is not None and noise is None:
        raise checks.bad_value(op, "strength", "be None where there is no noise", type(strength).__name__)
    n, c, h, w = shape
    for name, tensor, allowed in (
        ("scale", scale, ((n, c),)),
        ("noise", noise, ((n, 1, h, w), (1, 1, h, w), (h, w))),
        ("strength", strength, ((), (c,))),
        ("b", b, ((c,),)),
    ):
        if tensor is None:
            continue
        checks.check_tensor(op, name, tensor)
        if tensor.dtype not in (x.dtype, torch.float32):
            raise checks.bad_type(op, name, f"be of the dtype of x, {x.dtype}, or float32", tensor.dtype)
        if not checks.has_shape(tensor, *allowed):
            expected = f"have shape {SHAPES[name].format(n=n, c=c, h=h, w=w)}"
            raise checks.bad_value(op, name, expected, f"{list(tensor.shape)} (x is {list(shape)})")
        checks.check_same_device(op, name, tensor, x)
    spec = activation_funcs[act]
    alpha = float(spec.def_alpha if alpha is None else alpha)
    gain = float(spec.def_gain if gain is None else gain)
    return alpha, gain, None if clamp is None else float(clamp)


def _through_bias_act(act: str, alpha: float) -> bool:
    """Whether the derivative takes the activation's from `bias_act_backward`: it is curved, or loses the sign of u."""
    return activation_funcs[act].curved or (act == "lrelu" and alpha < 0)


def _slope_follows_from_input(act: str, alpha: float) -> bool:
    return act == "swish" or (act == "lrelu" and alpha < 0)


def _fake(x: torch.Tensor, *others: Any) -> torch.Tensor:
    return torch.empty_like(x, memory_format=library.memory_format(x))


def _setup_context(ctx: Any, inputs: tuple, y: torch.Tensor) -> None:
    x, scale, noise, strength, b, ctx.act, ctx.alpha, ctx.gain, ctx.clamp = inputs
    from_input = _slope_follows_from_input(ctx.act, ctx.alpha)
    reads_x = from_input or (scale is not None and ctx.needs_input_grad[1])
    reads_y = not from_input and (ctx.act != "linear" or ctx.clamp is not None)
    ctx.from_input = from_input
    ctx.save_for_backward(x if reads_x else None, y if reads_y else None, scale, noise, strength, b)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 9
    x, ref, scale, noise, strength, b = ctx.saved_tensors
    options = (ctx.act, ctx.alpha, ctx.gain, ctx.clamp)
    if _through_bias_act(ctx.act, ctx.alpha):
        if ctx.from_input:
            ref = ops.styled_bias_act(x, scale, noise, strength, b, "linear", 0.0, 1.0, None)
        dy, _ = ops.bias_act_backward(dy, ref, None, 1, *options, False)
        ref, options = None, ("linear", 0.0, 1.0, None)
    want_scale, want_noise, want_strength, want_b = (library.wanted(ctx, i) for i in range(1, 5))
    read = (x if want_scale else None, scale, noise if want_strength else None)
    dx, d_scale, d_strength, d_b = ops.styled_bias_act_backward(dy, ref, *read, *options, want_b)
    d_noise = None
    if want_noise:
        du = dx if scale is None else ops.styled_bias_act_backward(dy, ref, None, None, None, *options, False)[0]
        d_noise = _sum_over_channels(du, strength, noise)
    return (
        dx,
        d_scale if want_scale else None,
        d_noise,
        (d_strength.sum(0) if strength.ndim else d_strength.sum()) if want_strength else None,
        d_b.sum(0) if want_b else None,
        *(None,) * 4,
    )


def _sum_over_channels(du: torch.Tensor, strength: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor:
    """sum over c of strength[c] * du[n, c], of the shape of noise, [1, 1, H, W] or [N, 1, H, W]."""
    du = du.to(noise.dtype)
    if strength is None:
        total = du.sum(1, keepdim=True)  # [N, 1, H, W]
    elif strength.ndim == 0:
        total = du.sum(1, keepdim=True) * strength  # [N, 1, H, W]
    else:
        total = torch.einsum("nchw,c->nhw", du, strength)[:, None]  # [N, 1, H, W]
    return total.sum(0, keepdim=True) if noise.shape[0] != du.shape[0] else total


library.define(
    "styled_bias_act",
    "(Tensor x, Tensor? scale, Tensor? noise, Tensor? strength, Tensor? b, "
    "str act, float alpha, float gain, float? clamp) -> Tensor",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
    parameters=(3, 4),
)


def _fake_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    x: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    bias_gradient: bool,
) -> tuple[torch.Tensor, ...]:
    dx = _fake(_first(ref, x, dy))
    return dx, *(_fake_sum(dy, sums) for sums in (x is not None, noise is not None, bias_gradient))


def _first(*tensors: torch.Tensor | None) -> torch.Tensor:
    """The first that is given: the one whose memory format the result has."""
    return next(t for t in tensors if t is not None)


def _fake_sum(dy: torch.Tensor, wanted: bool) -> torch.Tensor:
    """Over the pixels, [N, C]; [0] where it is not wanted."""
    accumulate = torch.float64 if dy.dtype == torch.float64 else torch.float32
    return dy.new_empty(dy.shape[:2] if wanted else [0], dtype=accumulate)


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    dy, ref, x, scale, noise, *ctx.options, ctx.bias_gradient = inputs
    ctx.save_for_backward(dy, ref, x, scale, noise)


def _backward_backward(
    ctx: Any,
    ops: Any,
    ddx: torch.Tensor | None,
    dd_scale: torch.Tensor | None,
    dd_strength: torch.Tensor | None,
    dd_b: torch.Tensor | None,
) -> tuple:
    """All outputs are bilinear in dy and the rest, with a slope that is constant almost everywhere."""
    dy, ref, x, scale, noise = ctx.saved_tensors
    dd_scale = None if x is None else dd_scale
    dd_strength = None if noise is None else dd_strength
    dd_b = dd_b if ctx.bias_gradient else None
    if all(tangent is None for tangent in (ddx, dd_scale, dd_strength, dd_b)):
        return (None,) * 10
    want_x = dd_scale is not None and ctx.needs_input_grad[2]
    want_scale = ddx is not None and ctx.needs_input_grad[3]
    ddx = torch.zeros_like(dy) if ddx is None else ddx
    tangents = (ddx, dd_scale, dd_strength, dd_b)
    read = (None if dd_scale is None else x, scale, None if dd_strength is None else noise)
    grad_dy, grad_x, grad_scale = ops.styled_bias_act_backward_backward(
        dy, ref, *read, *tangents, *ctx.options, want_x, want_scale
    )
    grad_noise = None
    if dd_strength is not None and ctx.needs_input_grad[4]:
        du = ops.styled_bias_act_backward(dy, ref, None, None, None, *ctx.options, False)[0]
        grad_noise = _sum_over_channels(_planes(dd_strength) * du, None, noise)
    grad_x, grad_scale = grad_x if want_x else None, grad_scale if want_scale else None
    return grad_dy, None, grad_x, grad_scale, grad_noise, *(None,) * 5


def _planes(v: torch.Tensor) -> torch.Tensor:
    return v[:, :, None, None]  # [N, C, 1, 1]


library.define(
    "styled_bias_act_backward",
    "(Tensor dy, Tensor? ref, Tensor? x, Tensor? scale, Tensor? noise, "
    "str act, float alpha, float gain, float? clamp, bool bias_gradient) -> (Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)


def _fake_backward_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    x: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    ddx: torch.Tensor,
    dd_scale: torch.Tensor | None,
    dd_strength: torch.Tensor | None,
    dd_b: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    want_x: bool,
    want_scale: bool,
) -> tuple[torch.Tensor, ...]:
    grad_dy = _fake(_first(ref, x, dy))
    grad_x = torch.empty_like(grad_dy) if want_x else dy.new_empty([0])
    return grad_dy, grad_x, _fake_sum(dy, want_scale)


def _setup_backward_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, act, alpha, gain, clamp, _, _ = inputs
    ctx.options = (act, alpha, gain, clamp)
    ctx.save_for_backward(*tensors)


def _third_order(ctx: Any, ops: Any, p: torch.Tensor | None, q: torch.Tensor | None, r: torch.Tensor | None) -> tuple:
    """Of grad_dy = slope * (scale * ddx + dd_scale * x + dd_strength * noise + dd_b), grad_x = slope * dd_scale * dy
    and grad_scale = sum of slope * ddx * dy, whose gradients are p, q and r. Plain PyTorch but for the slope."""
    dy, ref, x, scale, noise, ddx, dd_scale, dd_strength, dd_b = ctx.saved_tensors

    def slope(v: torch.Tensor) -> torch.Tensor:
        return ops.styled_bias_act_backward(v.to(dy.dtype), ref, None, None, None, *ctx.options, False)[0]

    def total(v: torch.Tensor) -> torch.Tensor:
        return v.sum([2, 3], dtype=_fake_sum(dy, False).dtype)  # [N, C]

    p = torch.zeros_like(dy) if p is None else p
    q = torch.zeros_like(dy) if q is None or dd_scale is None else q
    r = _fake_sum(dy, True).zero_() if r is None or r.numel() != dy.shape[0] * dy.shape[1] else r
    of_dy = _planes(r) * ddx if dd_scale is None else _planes(r) * ddx + _planes(dd_scale) * q
    of_ddx = _planes(r) * dy + (p if scale is None else _planes(scale) * p)
    p, q = slope(p), slope(q)
    return (
        slope(of_dy),
        None,
        None if dd_scale is None else (_planes(dd_scale) * p).to(dy.dtype),
        None if scale is None else total(p * ddx),
        None if dd_strength is None else _sum_over_channels(_planes(dd_strength) * p, None, noise),
        slope(of_ddx),
        None if dd_scale is None else total(p * x + q * dy),
        None if dd_strength is None else total(p * noise),
        None if dd_b is None else total(p),
        *(None,) * 6,
    )


library.define(
    "styled_bias_act_backward_backward",
    "(Tensor dy, Tensor? ref, Tensor? x, Tensor? scale, Tensor? noise, "
    "Tensor ddx, Tensor? dd_scale, Tensor? dd_strength, Tensor? dd_b, "
    "str act, float alpha, float gain, float? clamp, bool want_x, bool want_scale) -> (Tensor, Tensor, Tensor)",
    fake=_fake_backward_backward,
    setup_context=_setup_backward_backward_context,
    backward=_third_order,
)
