"""style_epilogue: the tail of a StyleGAN layer with instance norm, in two passes over memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.ops.adain import check_parameter, check_style
from gankern.reference import style_epilogue as reference


def style_epilogue(
    x: torch.Tensor,
    noise: torch.Tensor | None = None,
    strength: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    act: str = "lrelu",
    alpha: float | None = None,
    gain: float = 1,
    eps: float = 1e-8,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Adds noise and a bias, applies an activation, normalises every channel of every image, scales and shifts.

    a = gain * act(x + strength * noise + b);  y = scale * (a - mean(a)) / sqrt(var(a) + eps) + shift, with mean and
    biased variance over H and W.

    Args:
        x: Images [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        noise: [H, W], [1, 1, H, W] or [N, 1, H, W], or None. All tensors beside x: of the dtype of x or float32.
        strength: Of the noise: a scalar tensor or [C]; None for 1.
        b: Bias [C], or None.
        scale: [N, C]; None for 1.
        shift: [N, C]; None for 0.
        act: 'linear', 'relu' or 'lrelu'.
        alpha: Slope of 'lrelu' below zero, default 0.2.
        gain: Scale of the activation's result, which only eps and a negative sign let through.
        eps: Added to the variance, at least 0.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor of the shape, dtype and memory format of x.

    Raises:
        TypeError: a tensor is not of a floating-point dtype named above, or a number is not a number.
        ValueError: a tensor does not fit x, strength is given without noise, `act` is not one of the three, eps is
            negative or NaN.
        RuntimeError: the backend was forced and cannot run.

    Gradients: all tensors, to any order; the kernels know two. Only x and one number per channel and image are kept.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, figure 1b and equation 1.
    """
    _check(x, noise, strength, b, act, alpha, gain)
    check_style("style_epilogue", x, scale, shift, eps)
    alpha = float(0.2 if alpha is None else alpha)
    noise = noise[None, None] if noise is not None and noise.ndim == 2 else noise
    chosen = dispatch.choose("style_epilogue", x.device.type, backend)
    if chosen == "eager":
        return reference.style_epilogue(x, noise, strength, b, scale, shift, act, alpha, float(gain), float(eps))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    tensors = (None if t is None else t.to(dtype) for t in (noise, strength, b, scale, shift))
    slope = {"linear": 1.0, "relu": 0.0, "lrelu": alpha}[act]
    return library.ops(chosen).style_epilogue(x, *tensors, slope, float(gain), float(eps))[0]


def _check(x: Any, noise: Any, strength: Any, b: Any, act: Any, alpha: Any, gain: Any) -> None:
    op = "style_epilogue"
    checks.check_image(op, x)
    if act not in tuple(reference.activations):  # which need not be hashable
        raise checks.bad_value(op, "act", f"be one of {', '.join(reference.activations)}", repr(act))
    for name, value in (("alpha", alpha), ("gain", gain)):
        if value is not None or name == "gain":
            checks.check_number(op, name, value)
    n, c, h, w = x.shape
    got = f"(x is {list(x.shape)})"
    for name, tensor in (("noise", noise), ("strength", strength), ("b", b)):
        if tensor is not None:
            check_parameter(op, name, tensor, x)
    if noise is not None and not checks.has_shape(noise, (h, w), (1, 1, h, w), (n, 1, h, w)):
        expected = f"have shape [H, W], [1, 1, H, W] or [N, 1, H, W] with [N, H, W] = {[n, h, w]}"
        raise checks.bad_value(op, "noise", expected, f"{list(noise.shape)} {got}")
    if strength is not None and noise is None:
        raise checks.bad_value(op, "strength", "be None where there is no noise", f"{list(strength.shape)}")
    if strength is not None and not checks.has_shape(strength, (), (c,)):
        raise checks.bad_value(op, "strength", f"be a scalar or [C] = [{c}]", f"{list(strength.shape)} {got}")
    if b is not None and b.shape != (c,):
        raise checks.bad_value(op, "b", f"have shape [C] = [{c}]", f"{list(b.shape)} {got}")


def _spread(du: torch.Tensor, weight: torch.Tensor | None, noise: torch.Tensor) -> torch.Tensor:
    """What flows from du [N, C, H, W] to the noise, weighted over the channels; once in a while, so plain PyTorch."""
    du = du.to(noise.dtype)
    du = du if weight is None else du * weight
    return du.sum([0, 1] if noise.shape[0] == 1 else [1]).reshape(noise.shape)


def _like(strength: torch.Tensor, noise_sum: torch.Tensor) -> torch.Tensor:
    return noise_sum.sum(0) if strength.ndim == 1 else noise_sum.sum()


def _by_channel(strength: torch.Tensor | None) -> torch.Tensor | None:
    return None if strength is None else strength.reshape(-1, 1, 1)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, noise, strength, b, scale, _, *ctx.options = inputs
    _, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, noise, strength, b, scale, mean, rstd)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None, *_: None) -> tuple:
    if dy is None:
        return (None,) * 9
    _, noise, strength, *_ = ctx.saved_tensors
    want_strength, want_b = library.wanted(ctx, 2), library.wanted(ctx, 3)
    sums = want_strength or want_b
    dx, dscale, dshift, total, noise_sum = ops.style_epilogue_backward(dy, *ctx.saved_tensors, *ctx.options, sums)
    return (
        dx,
        _spread(dx, _by_channel(strength), noise) if ctx.needs_input_grad[1] else None,
        _like(strength, noise_sum) if want_strength else None,
        total.sum(0) if want_b else None,
        dscale if ctx.needs_input_grad[4] else None,
        dshift if ctx.needs_input_grad[5] else None,
        *(None,) * 3,
    )


def _fake(x: torch.Tensor, *_: Any) -> tuple[torch.Tensor, ...]:
    return torch.empty_like(x), *_fake_sums(x, 2)


def _fake_sums(x: torch.Tensor, number: int, wanted: bool = True) -> tuple[torch.Tensor, ...]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    shape = x.shape[:2] if wanted else [0]
    return tuple(x.new_empty(shape, dtype=dtype) for _ in range(number))


library.define(
    "style_epilogue",
    "(Tensor x, Tensor? noise, Tensor? strength, Tensor? b, Tensor? scale, Tensor? shift, float alpha, float gain, "
    "float eps) -> (Tensor, Tensor, Tensor)",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
    parameters=(2, 3),
)


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, alpha, gain, eps, ctx.sums = inputs
    ctx.options = (alpha, gain, eps)
    ctx.save_for_backward(*tensors)


def _backward_backward(
    ctx: Any,
    ops: Any,
    ddx: torch.Tensor | None,
    ddscale: torch.Tensor | None,
    ddshift: torch.Tensor | None,
    ddtotal: torch.Tensor | None,
    ddnoise_sum: torch.Tensor | None,
) -> tuple:
    """x stands for all of x + strength * noise + b, and mean and rstd for functions of it."""
    _, x, noise, strength, *_ = ctx.saved_tensors
    if all(t is None for t in (ddx, ddscale, ddshift, ddtotal, ddnoise_sum)):
        return (None,) * 12
    ddx = torch.zeros_like(x) if ddx is None else ddx
    if ctx.sums and ddtotal is not None:
        ddx = ddx + ddtotal[:, :, None, None].to(x.dtype)
    if ctx.sums and noise is not None and ddnoise_sum is not None:
        ddx = ddx + (ddnoise_sum[:, :, None, None] * noise).to(x.dtype)
    want_strength, want_b = ctx.needs_input_grad[3], ctx.needs_input_grad[4]
    sums = want_strength or want_b
    ddy, grad_x, grad_scale, total, noise_sum = ops.style_epilogue_backward_backward(
        ddx, ddscale, ddshift, *ctx.saved_tensors, *ctx.options, sums
    )
    grad_noise = None
    if ctx.needs_input_grad[2]:
        grad_noise = _spread(grad_x, _by_channel(strength), noise)
        if ctx.sums and ddnoise_sum is not None:
            dx = ops.style_epilogue_backward(*ctx.saved_tensors, *ctx.options, False)[0]
            grad_noise = grad_noise + _spread(dx, ddnoise_sum[:, :, None, None], noise)
    return (
        ddy,
        grad_x,
        grad_noise,
        _like(strength, noise_sum) if want_strength else None,
        total.sum(0) if want_b else None,
        grad_scale if ctx.needs_input_grad[5] else None,
        *(None,) * 6,
    )


def _fake_backward(dy: torch.Tensor, x: torch.Tensor, noise: torch.Tensor | None, *rest: Any) -> tuple:
    sums = rest[-1]
    totals = (*_fake_sums(x, 1, sums), *_fake_sums(x, 1, sums and noise is not None))
    return torch.empty_like(x), *_fake_sums(x, 2), *totals


library.define(
    "style_epilogue_backward",
    "(Tensor dy, Tensor x, Tensor? noise, Tensor? strength, Tensor? b, Tensor? scale, Tensor mean, Tensor rstd, "
    "float alpha, float gain, float eps, bool sums) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)


def _third_order(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    alpha, gain, eps = ctx.options
    function = partial(reference.style_epilogue_backward_backward, alpha=alpha, gain=gain, eps=eps, sums=ctx.sums)
    *tensors, _, _ = ctx.saved_tensors
    return *library.differentiate(function, tensors, gradients), *(None,) * 6


def _fake_backward_backward(
    ddx: torch.Tensor,
    ddscale: torch.Tensor | None,
    ddshift: torch.Tensor | None,
    dy: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor | None,
    *rest: Any,
) -> tuple:
    sums = rest[-1]
    totals = (*_fake_sums(x, 1, sums), *_fake_sums(x, 1, sums and noise is not None))
    return torch.empty_like(x), torch.empty_like(x), *_fake_sums(x, 1), *totals


library.define(
    "style_epilogue_backward_backward",
    "(Tensor ddx, Tensor? ddscale, Tensor? ddshift, Tensor dy, Tensor x, Tensor? noise, Tensor? strength, Tensor? b, "
    "Tensor? scale, Tensor mean, Tensor rstd, float alpha, float gain, float eps, bool sums) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    fake=_fake_backward_backward,
    setup_context=_setup_backward_context,
    backward=_third_order,
)
