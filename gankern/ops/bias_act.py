"""bias_act: bias, activation, gain and clamp in one pass over memory."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import bias_act as reference
from gankern.reference.bias_act import activation_funcs as activation_funcs


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Adds a bias, applies an activation, scales, and clamps: y = clamp(gain * f(x + b), -clamp, clamp).

    Args:
        x: Input of any shape with at least one dimension; float64, float32, bfloat16 or float16, any strides.
        b: Bias [x.shape[dim]], of the dtype of x or float32, or None.
        dim: The dimension of x that b belongs to; default 1, the channels. Ignored without b.
        act: 'linear', 'relu', 'lrelu', 'tanh', 'sigmoid', 'elu', 'selu', 'softplus' or 'swish' (u * sigmoid(u)).
        alpha: Slope of 'lrelu' below zero, default 0.2; no other activation has one.
        gain: Scale of the result; default sqrt(2) for 'relu', 'lrelu' and 'swish', else 1.
        clamp: Largest absolute value of the result, at least 0; None for no limit.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor of the shape, dtype and memory format of x. x itself where there is nothing to do.

    Raises:
        TypeError: x or b is not of a floating-point dtype named above, or a number is not a number.
        ValueError: b does not fit x, `act` is unknown, clamp is negative or NaN.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and b, to any order. The gradient is 0 where the result reaches +-clamp.
    Backends: native (CPU, CUDA), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B (the layer's
        tail); Karras et al., "Training Generative Adversarial Networks with Limited Data", 2020 (clamp).
    """
    _check(x, b, dim, act, alpha, gain, clamp)
    spec = activation_funcs[act]
    alpha = float(spec.def_alpha if alpha is None else alpha)
    gain = float(spec.def_gain if gain is None else gain)
    clamp = None if clamp is None else float(clamp)
    if b is None and act == "linear" and gain == 1 and clamp is None:
        return x
    dim = dim % x.ndim if b is not None else 0
    chosen = dispatch.choose("bias_act", x.device.type, backend)
    if chosen == "eager":
        return reference.bias_act(x, b, dim, act, alpha, gain, clamp)
    return library.ops(chosen).bias_act(x, b, dim, act, alpha, gain, clamp)


def _check(x: Any, b: Any, dim: Any, act: Any, alpha: Any, gain: Any, clamp: Any) -> None:
    checks.check_floating("bias_act", "x", x)
    if x.ndim == 0:
        raise checks.bad_value("bias_act", "x", "have at least one dimension", "a scalar tensor")
    if act not in tuple(activation_funcs):  # which need not be hashable
        raise checks.bad_value("bias_act", "act", f"be one of {', '.join(activation_funcs)}", repr(act))
    for name, value in (("alpha", alpha), ("gain", gain), ("clamp", clamp)):
        if value is not None:
            checks.check_number("bias_act", name, value)
    if clamp is not None and not clamp >= 0:
        raise checks.bad_value("bias_act", "clamp", "be None or at least 0", clamp)
    if b is None:
        return
    checks.check_tensor("bias_act", "b", b)
    if not checks.is_integer(dim) or not -x.ndim <= dim < x.ndim:
        raise checks.bad_value("bias_act", "dim", f"be in [{-x.ndim}, {x.ndim}) (x is {list(x.shape)})", repr(dim))
    if b.dtype not in (x.dtype, torch.float32):
        raise checks.bad_type("bias_act", "b", f"be of the dtype of x, {x.dtype}, or float32", b.dtype)
    if b.ndim != 1 or b.shape[0] != x.shape[dim]:
        expected = f"have shape [C] = [{x.shape[dim]}]"
        raise checks.bad_value("bias_act", "b", expected, f"{list(b.shape)} (x is {list(x.shape)}, dim {dim})")
    checks.check_same_device("bias_act", "b", b, x)


def _saves_input(act: str, alpha: float) -> bool:
    """The slope follows from the output, except where the output does not tell the input's sign or value."""
    return act == "swish" or (act == "lrelu" and alpha < 0)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, b, ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp = inputs
    ctx.bias_dtype = None if b is None else b.dtype
    if ctx.act == "linear" and ctx.clamp is None:
        ctx.save_for_backward(None, None)
    elif _saves_input(ctx.act, ctx.alpha):
        ctx.save_for_backward(x, b)
    else:
        ctx.save_for_backward(output, None)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 7
    ref, b = ctx.saved_tensors
    want_db = library.wanted(ctx, 1)
    dx, db = ops.bias_act_backward(dy, ref, b, ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp, want_db)
    return dx, db.to(ctx.bias_dtype) if want_db else None, None, None, None, None, None


library.define(
    "bias_act",
    "(Tensor x, Tensor? b, int dim, str act, float alpha, float gain, float? clamp) -> Tensor",
    fake=lambda x, b, dim, act, alpha, gain, clamp: torch.empty_like(x),
    setup_context=_setup_context,
    backward=_backward,
    parameters=(1,),
)


def _fake_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    bias_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    accumulate = torch.float64 if dy.dtype == torch.float64 else torch.float32
    db = dy.new_empty([dy.shape[dim] if bias_gradient else 0], dtype=accumulate)
    return torch.empty_like(dy if ref is None else ref), db


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    dy, ref, b, ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp, ctx.bias_gradient = inputs
    ctx.shape, ctx.dtype = dy.shape, dy.dtype
    ctx.save_for_backward(dy if activation_funcs[ctx.act].curved else None, ref, b)


def _backward_backward(ctx: Any, ops: Any, ddx: torch.Tensor | None, ddb: torch.Tensor | None) -> tuple:
    """dx is linear in dy with a slope that depends on ref: the first is the same kernel, the second plain PyTorch."""
    dy, ref, b = ctx.saved_tensors
    if ddb is not None and ctx.bias_gradient:
        shape = [1] * len(ctx.shape)
        shape[ctx.dim] = -1
        ddb = ddb.to(ctx.dtype).reshape(shape)
        ddx = ddb.expand(ctx.shape) if ddx is None else ddx + ddb
    if ddx is None:
        return (None,) * 9
    grad_dy = grad_ref = grad_b = None
    if ctx.needs_input_grad[0]:
        options = (ctx.dim, ctx.act, ctx.alpha, ctx.gain, ctx.clamp, False)
        grad_dy = ops.bias_act_backward(ddx, ref, b, *options)[0]
    if dy is not None and (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
        grad_ref = ddx * dy * reference.slope_derivative(ref, b, ctx.dim, ctx.act, ctx.gain, ctx.clamp)
        if b is not None and ctx.needs_input_grad[2]:
            others = [i for i in range(ref.ndim) if i != ctx.dim]
            grad_b = grad_ref.sum(others).to(b.dtype) if others else grad_ref.to(b.dtype)
    return grad_dy, grad_ref, grad_b, None, None, None, None, None, None


library.define(
    "bias_act_backward",
    "(Tensor dy, Tensor? ref, Tensor? b, int dim, str act, float alpha, float gain, float? clamp, "
    "bool bias_gradient) -> (Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
