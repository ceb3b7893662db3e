"""conv2d and conv_transpose2d: convolutions whose gradients of every order are convolutions of ordinary size.

The convolution, its transpose and its weight gradient are closed under differentiation: each one's derivatives are the
other two. torch's own second derivative computes a weight gradient as a convolution with a kernel as large as the
image, and once per group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from gankern import checks, convolution, dispatch, library
from gankern.ops.bias_act import activation_funcs, bias_act
from gankern.ops.styled_conv2d import fits, styled_conv2d
from gankern.reference import conv2d as reference

Size = int | Sequence[int]
MOST = 2**31 - 1  # of a stride, a padding or a dilation


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    *,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    precise: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """Convolves, adds a bias and applies an activation: y = bias_act(conv(input, weight), bias, act, gain, clamp).

    Args:
        input: Images [N, I, H, W]; float64, float32, bfloat16 or float16, contiguous or channels_last.
        weight: Weight [O, I / groups, kh, kw], of the dtype of input or float32, then cast to that of input.
        bias: Bias [O], of the dtype of input or float32, or None.
        stride, padding, dilation, groups: As in `torch.nn.functional.conv2d`: numbers, or pairs [y, x].
        act, alpha, gain, clamp: As in `gankern.bias_act`; nothing is done by default.
        precise: True convolves as backend='eager' does, directly, with errors near 3e-7 of the largest result. Else
            they may reach 2e-5, where Winograd's algorithm is faster and torch.use_deterministic_algorithms is off.
        backend: 'native' for gankern's gradients, 'eager' for torch's; None chooses.

    Returns:
        Images [N, O, (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1, ...], channels_last if input or weight
        is.

    Raises:
        TypeError: a tensor is not of a dtype named above.
        ValueError: a shape does not fit, or a number is out of range.

    Gradients: input, weight and bias, to any order. Inside `no_weight_gradients()` those of parameters are left out.
    Backends: native, eager. Both run torch's convolution forward. Under torch.autocast input and weight are cast.
    Source: the layer of every convolutional GAN since Radford et al., "Unsupervised Representation Learning with
        Deep Convolutional Generative Adversarial Networks", 2016.
    """
    op = "conv2d"
    input, weight = _checked(op, input, weight, groups, transposed=False)
    strides, pads, dilations = (
        _pair(op, "stride", stride, 1),
        _pair(op, "padding", padding, 0),
        _pair(op, "dilation", dilation, 1),
    )
    _check_size(op, input, weight, pads, dilations)
    _check_tail(op, input, weight.shape[0], bias, act, alpha, gain, clamp)
    if precise or dispatch.choose("conv2d", input.device.type, backend) == "eager":
        tail = _tail(act, alpha, gain, clamp)
        return reference.conv2d(input, weight, bias, strides, pads, dilations, groups, *tail)
    tail = _tail(act, alpha, gain, clamp)
    if strides == dilations == [1, 1] and groups == 1 and fits(input, weight, pads, *tail[:3], None, backend):
        return styled_conv2d(input, weight, None, None, None, None, bias, pads, *tail)
    y = torch.ops.gankern.conv2d(input, weight.to(input.dtype), strides, pads, dilations, groups)
    if bias is None and act == "linear" and alpha is gain is clamp is None:
        return y
    return bias_act(y, bias, act=act, alpha=alpha, gain=gain, clamp=clamp)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
    *,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    precise: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """The transpose of `conv2d` in its input, with bias and activation: input [N, I, H, W] -> [N, O, ...].

    Args:
        input: Images [N, I, H, W]; float64, float32, bfloat16 or float16, contiguous or channels_last.
        weight: Weight [I, O / groups, kh, kw], of the dtype of input or float32, then cast to that of input.
        bias: Bias [O], of the dtype of input or float32, or None.
        stride, padding, output_padding, groups, dilation: As in `torch.nn.functional.conv_transpose2d`.
        act, alpha, gain, clamp: As in `gankern.bias_act`; nothing is done by default.
        precise: As in `conv2d`.
        backend: 'native' for gankern's gradients, 'eager' for torch's; None chooses.

    Returns:
        Images [N, O, (H - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1, ...].

    Raises:
        TypeError: a tensor is not of a dtype named above.
        ValueError: a shape does not fit, or a number is out of range.

    Gradients: input, weight and bias, to any order.
    Backends: native, eager, as `conv2d`.
    Source: Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks", 2016, section 3.
    """
    op = "conv_transpose2d"
    input, weight = _checked(op, input, weight, groups, transposed=True)
    strides, pads, dilations = (
        _pair(op, "stride", stride, 1),
        _pair(op, "padding", padding, 0),
        _pair(op, "dilation", dilation, 1),
    )
    extra = _pair(op, "output_padding", output_padding, 0)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        expected = f"be smaller than stride {strides} or dilation {dilations}"
        raise checks.bad_value(op, "output_padding", expected, extra)
    sizes = zip(input.shape[2:], weight.shape[2:], strides, pads, dilations, strict=True)
    if any(e - _extra(0, *size) < 1 for e, size in zip(extra, sizes, strict=True)):
        raise checks.bad_value(op, "padding", f"leave a pixel of the result (input is {list(input.shape)})", pads)
    _check_tail(op, input, weight.shape[1] * groups, bias, act, alpha, gain, clamp)
    if precise or dispatch.choose("conv2d", input.device.type, backend) == "eager":
        tail = _tail(act, alpha, gain, clamp)
        return reference.conv_transpose2d(input, weight, bias, strides, pads, extra, groups, dilations, *tail)
    weight = weight.to(input.dtype)
    if any(e >= s for e, s in zip(extra, strides, strict=True)):
        # As many zeros at the end of the input: the derivatives know the size of a result from less than a stride.
        more = [e // s for e, s in zip(extra, strides, strict=True)]
        input = torch.nn.functional.pad(input, [0, more[1], 0, more[0]])
        extra = [e % s for e, s in zip(extra, strides, strict=True)]
    y = torch.ops.gankern.conv_transpose2d(input, weight, strides, pads, extra, dilations, groups)
    if bias is None and act == "linear" and alpha is gain is clamp is None:
        return y
    return bias_act(y, bias, act=act, alpha=alpha, gain=gain, clamp=clamp)


@contextmanager
def no_weight_gradients(disable: bool = True) -> Iterator[None]:
    """`gankern.inputs_only()` under the name that gradient penalties know: `with no_weight_gradients(): grad(...)`.

    Only gradients of parameters are left out. A weight that is itself computed from what is differentiated (per-sample
    weights, a function of the styles) keeps its gradient.

    Args:
        disable: False changes nothing.
    """
    if not disable:
        yield
        return
    with library.inputs_only():
        yield


def _check_tail(
    op: str, input: torch.Tensor, channels: int, bias: Any, act: Any, alpha: Any, gain: Any, clamp: Any
) -> None:
    if act not in tuple(activation_funcs):  # which need not be hashable
        raise checks.bad_value(op, "act", f"be one of {', '.join(activation_funcs)}", repr(act))
    for name, value in (("alpha", alpha), ("gain", gain), ("clamp", clamp)):
        if value is not None:
            checks.check_number(op, name, value)
    if clamp is not None and not clamp >= 0:
        raise checks.bad_value(op, "clamp", "be None or at least 0", clamp)
    if bias is None:
        return
    checks.check_tensor(op, "bias", bias)
    if bias.dtype not in (input.dtype, torch.float32):
        raise checks.bad_type(op, "bias", f"be of the dtype of input, {input.dtype}, or float32", bias.dtype)
    if bias.shape != (channels,):
        raise checks.bad_value(op, "bias", f"have shape [O] = [{channels}]", list(bias.shape))
    checks.check_same_device(op, "bias", bias, input)


def _tail(
    act: str, alpha: float | None, gain: float | None, clamp: float | None
) -> tuple[str, float, float, float | None]:
    spec = activation_funcs[act]
    return act, spec.def_alpha if alpha is None else alpha, spec.def_gain if gain is None else gain, clamp


def _checked(op: str, input: Any, weight: Any, groups: Any, transposed: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Both tensors, in the dtype of autocast where that is on, as torch's own convolutions."""
    checks.check_image(op, input, "input")
    checks.check_floating(op, "weight", weight)
    if not checks.is_integer(groups) or groups < 1 or input.shape[1] % groups != 0:
        expected = f"be an integer of at least 1 that divides I = {input.shape[1]}"
        raise checks.bad_value(op, "groups", expected, repr(groups))
    if input.device.type != "meta" and torch.is_autocast_enabled(input.device.type):
        dtype = torch.get_autocast_dtype(input.device.type)
        input, weight = input.to(dtype), weight.to(dtype)
    if weight.dtype not in (input.dtype, torch.float32):
        raise checks.bad_type(op, "weight", f"be of the dtype of input, {input.dtype}, or float32", weight.dtype)
    checks.check_same_device(op, "weight", weight, input)
    i = input.shape[1] if transposed else input.shape[1] // groups
    fits = weight.ndim == 4 and 0 not in weight.shape and weight.shape[0 if transposed else 1] == i
    if not fits or (not transposed and weight.shape[0] % groups != 0):
        names = "[I, O / groups, kh, kw]" if transposed else "[O, I / groups, kh, kw]"
        expected = f"have shape {names} with I = {input.shape[1]}, groups = {groups}"
        raise checks.bad_value(op, "weight", expected, list(getattr(weight, "shape", [])))
    return input, weight


def _pair(op: str, name: str, value: Any, least: int) -> list[int]:
    if type(value) is int and least <= value <= MOST:
        return [value, value]
    pair: list[Any] = list(value) if isinstance(value, Sequence) else [value, value]
    if len(pair) != 2 or not all(checks.is_integer(v) and least <= v <= MOST for v in pair):
        raise checks.bad_value(op, name, f"be an integer of at least {least}, or two [y, x], below 2^31", repr(value))
    return pair


def _check_size(op: str, input: torch.Tensor, weight: torch.Tensor, padding: list[int], dilation: list[int]) -> None:
    for axis in (0, 1):
        extent = dilation[axis] * (weight.shape[2 + axis] - 1) + 1
        if input.shape[2 + axis] + 2 * padding[axis] < extent:
            expected = f"fit into the padded image (input is {list(input.shape)}, padding {padding})"
            raise checks.bad_value(op, "weight", expected, list(weight.shape))


def _extra(size: int, result: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The output padding with which the transpose of a convolution of `result` pixels gives back `size` pixels."""
    return size - ((result - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1)


def _transpose(ops: Any, dy: torch.Tensor, w: torch.Tensor, shape: Sequence[int], ctx: Any) -> torch.Tensor:
    sizes = zip(shape[2:], dy.shape[2:], w.shape[2:], ctx.stride, ctx.padding, ctx.dilation, strict=True)
    return ops.conv_transpose2d(dy, w, ctx.stride, ctx.padding, [_extra(*s) for s in sizes], ctx.dilation, ctx.groups)


def _is_channels_last(t: torch.Tensor) -> bool:
    return not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)


def _conv2d(
    ops: Any, x: torch.Tensor, w: torch.Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> torch.Tensor:
    return convolution.convolution(x, w, stride, padding, dilation, False, [0, 0], groups)


def _fake_conv2d(
    x: torch.Tensor, w: torch.Tensor, stride: list[int], padding: list[int], dilation: list[int], groups: int
) -> torch.Tensor:
    return torch.ops.aten.convolution(x, w, None, stride, padding, dilation, False, [0, 0], groups)


def _setup_conv2d(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, w, ctx.stride, ctx.padding, ctx.dilation, ctx.groups = inputs
    ctx.x_shape, ctx.w_shape, ctx.w_last = x.shape, w.shape, _is_channels_last(w)
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w if ctx.needs_input_grad[0] else None)


def _conv2d_backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 6
    x, w = ctx.saved_tensors
    dx = _transpose(ops, dy, w, ctx.x_shape, ctx) if ctx.needs_input_grad[0] else None
    dw = None
    if library.wanted(ctx, 1):
        sizes = (ctx.w_shape, ctx.stride, ctx.padding, ctx.dilation, ctx.groups, ctx.w_last)
        dw = ops.conv2d_weight_gradient(x, dy, *sizes)
    return dx, dw, None, None, None, None


library.define(
    "conv2d",
    "(Tensor x, Tensor w, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor",
    fake=_fake_conv2d,
    composite=_conv2d,
    setup_context=_setup_conv2d,
    backward=_conv2d_backward,
    parameters=(1,),
)


def _conv_transpose2d(
    ops: Any,
    x: torch.Tensor,
    w: torch.Tensor,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    return convolution.convolution(x, w, stride, padding, dilation, True, output_padding, groups)


def _fake_conv_transpose2d(
    x: torch.Tensor,
    w: torch.Tensor,
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    return torch.ops.aten.convolution(x, w, None, stride, padding, dilation, True, output_padding, groups)


def _setup_conv_transpose2d(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, w, ctx.stride, ctx.padding, _, ctx.dilation, ctx.groups = inputs
    ctx.w_shape, ctx.w_last = w.shape, _is_channels_last(w)
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w if ctx.needs_input_grad[0] else None)


def _conv_transpose2d_backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    if dy is None:
        return (None,) * 7
    x, w = ctx.saved_tensors
    sizes = (ctx.stride, ctx.padding, ctx.dilation, ctx.groups)
    dx = ops.conv2d(dy, w, *sizes) if ctx.needs_input_grad[0] else None
    dw = ops.conv2d_weight_gradient(dy, x, ctx.w_shape, *sizes, ctx.w_last) if library.wanted(ctx, 1) else None
    return dx, dw, None, None, None, None, None


library.define(
    "conv_transpose2d",
    "(Tensor x, Tensor w, SymInt[] stride, SymInt[] padding, SymInt[] output_padding, SymInt[] dilation, "
    "SymInt groups) -> Tensor",
    fake=_fake_conv_transpose2d,
    composite=_conv_transpose2d,
    setup_context=_setup_conv_transpose2d,
    backward=_conv_transpose2d_backward,
    parameters=(1,),
)


def _fake_weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    shape: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    channels_last: bool,
) -> torch.Tensor:
    return torch.empty(
        shape,
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )


def _setup_weight_gradient(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, dy, _, ctx.stride, ctx.padding, ctx.dilation, ctx.groups, _ = inputs
    ctx.x_shape = x.shape
    ctx.save_for_backward(x, dy)


def _weight_gradient_backward(ctx: Any, ops: Any, ddw: torch.Tensor | None) -> tuple:
    """The weight gradient is linear in x and in dy; ddw takes the place of the weight."""
    if ddw is None:
        return (None,) * 8
    x, dy = ctx.saved_tensors
    dx = _transpose(ops, dy, ddw, ctx.x_shape, ctx) if ctx.needs_input_grad[0] else None
    sizes = (ctx.stride, ctx.padding, ctx.dilation, ctx.groups)
    ddy = ops.conv2d(x, ddw, *sizes) if ctx.needs_input_grad[1] else None
    return dx, ddy, None, None, None, None, None, None


library.define(
    "conv2d_weight_gradient",
    "(Tensor x, Tensor dy, SymInt[] shape, SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, "
    "bool channels_last) -> Tensor",
    fake=_fake_weight_gradient,
    composite=lambda ops, *inputs: convolution.weight_gradient(*inputs),
    setup_context=_setup_weight_gradient,
    backward=_weight_gradient_backward,
)
