"""filtered_lrelu: bias, upsampling, leaky ReLU and downsampling, a nonlinearity that makes no new high frequencies."""

from __future__ import annotations

import math
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.ops.bias_act import bias_act
from gankern.ops.upfirdn2d import MAX_SCALE, MAX_TAPS, Padding, filter_size, parse_padding, upfirdn2d
from gankern.reference import filtered_lrelu as reference

MAX_FUSED_TAPS = 32  # an axis; as in csrc/math/filtered_lrelu.h
MAX_FUSED_SCALE = 8


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Adds a bias, upsamples, applies a scaled and clamped leaky ReLU, and downsamples.

    y = down(clamp(gain * lrelu(up(x + b)))), where up is `upfirdn2d(x, fu, up=up, padding=padding, gain=up**2)` and
    down is `upfirdn2d(x, fd, down=down)`.

    Args:
        x: Images [N, C, H, W], float64, float32, bfloat16 or float16, any strides.
        fu: Filter of the upsampling [taps_y, taps_x], or [taps] for both axes, float32; None for the identity.
        fd: Filter of the downsampling, likewise.
        b: Bias [C], of the dtype of x or float32, or None.
        up: Integer factor, 1 to 128.
        down: Integer factor, 1 to 128.
        padding: Pixels of the upsampled image: a number, [x, y] or [x_before, x_after, y_before, y_after].
        gain: Scale of the activation, greater than 0.
        slope: Of the leaky ReLU below zero, at least 0.
        clamp: Largest absolute value after the activation, at least 0; None for no limit.
        flip_filter: False is a convolution with fu and fd, True a correlation.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, out_H, out_W] of the dtype and memory format of x, of size
        (in * up + before + after - taps_of_fu - taps_of_fd + 1) // down + 1 along each axis.

    Raises:
        TypeError: a tensor is not of a dtype named above, or a number is not a number.
        ValueError: a shape, factor, padding, gain, slope or clamp does not fit.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and b, to any order. None for the filters.
    Backends: native (CPU, CUDA), triton, eager. One kernel on the CPU for filters of up to 32 taps an axis and factors
        of up to 8 (channels_last is copied); else composed of the kernels of `bias_act` and `upfirdn2d`. Arithmetic in
        float32 for 16-bit types.
    Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021, section 3.2 and appendix D.
    """
    checks.check_image("filtered_lrelu", x)
    padding = parse_padding("filtered_lrelu", padding)
    _check_numbers(up, down, gain, slope, clamp)
    fu = torch.ones([1], device=x.device) if fu is None else fu
    fd = torch.ones([1], device=x.device) if fd is None else fd
    gain, slope, flip = float(gain), float(slope), bool(flip_filter)
    clamp = None if clamp is None else float(clamp)
    _check_tensors(x, fu, fd, b, up, down, padding)
    chosen = dispatch.choose("filtered_lrelu", x.device.type, backend)
    if chosen == "eager":
        return reference.filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip)
    if chosen == "triton" or not _is_fused(x, fu, fd, up, down):
        x = bias_act(x, b, backend=chosen)
        x = upfirdn2d(x, fu, up, 1, padding, flip, up**2, backend=chosen)
        x = bias_act(x, None, 1, "lrelu", slope, gain, clamp, backend=chosen)
        return upfirdn2d(x, fd, 1, down, 0, flip, backend=chosen)
    keep = torch.is_grad_enabled() and (x.requires_grad or (b is not None and b.requires_grad))
    b = None if b is None else b.to(_total(x))
    return library.ops(chosen).filtered_lrelu(x, fu, fd, b, up, down, *padding, gain, slope, clamp, flip, keep)[0]


def _is_fused(x: torch.Tensor, fu: torch.Tensor, fd: torch.Tensor, up: int, down: int) -> bool:
    """The one place that says which calls are one kernel, and not composed of four."""
    if ("filtered_lrelu", x.device.type) in dispatch.COMPOSED:
        return False
    return max(*filter_size(fu), *filter_size(fd)) <= MAX_FUSED_TAPS and max(up, down) <= MAX_FUSED_SCALE


def _total(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check_numbers(up: Any, down: Any, gain: Any, slope: Any, clamp: Any) -> None:
    for name, value in (("up", up), ("down", down)):
        if not checks.is_integer(value):
            raise checks.bad_type("filtered_lrelu", name, "be an integer", repr(value))
        if not 1 <= value <= MAX_SCALE:
            raise checks.bad_value("filtered_lrelu", name, f"be in [1, {MAX_SCALE}]", value)
    for name, value in (("gain", gain), ("slope", slope), ("clamp", clamp)):
        if value is not None or name != "clamp":
            checks.check_number("filtered_lrelu", name, value)
    if not gain > 0:
        raise checks.bad_value("filtered_lrelu", "gain", "be greater than 0", gain)
    if not slope >= 0:
        raise checks.bad_value("filtered_lrelu", "slope", "be at least 0", slope)
    if clamp is not None and not clamp >= 0:
        raise checks.bad_value("filtered_lrelu", "clamp", "be None or at least 0", clamp)


def _check_tensors(
    x: torch.Tensor, fu: Any, fd: Any, b: Any, up: int, down: int, padding: tuple[int, int, int, int]
) -> tuple[int, int]:
    """Returns the height and width of the upsampled image. `bias_act` checks b and `upfirdn2d` the filters' use."""
    for name, f in (("fu", fu), ("fd", fd)):
        checks.check_tensor("filtered_lrelu", name, f)
        if f.dtype != torch.float32:
            raise checks.bad_type("filtered_lrelu", name, "be float32 (see setup_filter)", f.dtype)
        if f.ndim not in (1, 2) or f.numel() == 0 or max(f.shape) > MAX_TAPS:
            expected = f"have shape [taps] or [taps_y, taps_x] with 1 to {MAX_TAPS} taps"
            raise checks.bad_value("filtered_lrelu", name, expected, list(f.shape))
        if f.requires_grad:
            raise checks.bad_value(
                "filtered_lrelu", name, "not require a gradient: there is none", "requires_grad=True"
            )
        checks.check_same_device("filtered_lrelu", name, f, x)
    if b is not None:
        checks.check_tensor("filtered_lrelu", "b", b)
        if b.dtype not in (x.dtype, torch.float32):
            raise checks.bad_type("filtered_lrelu", "b", f"be of the dtype of x, {x.dtype}, or float32", b.dtype)
        if b.ndim != 1 or b.shape[0] != x.shape[1]:
            expected = f"have shape [C] = [{x.shape[1]}]"
            raise checks.bad_value("filtered_lrelu", "b", expected, f"{list(b.shape)} (x is {list(x.shape)})")
        checks.check_same_device("filtered_lrelu", "b", b, x)
    (uw, uh), (dw, dh) = filter_size(fu), filter_size(fd)
    width = x.shape[3] * up + padding[0] + padding[1] - uw + 1
    height = x.shape[2] * up + padding[2] + padding[3] - uh + 1
    if width < dw or height < dh:
        expected = f"leave at least a pixel for fd [{dh}, {dw}] after fu [{uh}, {uw}]"
        raise checks.bad_value("filtered_lrelu", "padding", expected, f"{list(padding)} (x is {list(x.shape)})")
    return height, width


def _like(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """Nobody's images of the layout of x: channels_last if channels are neighbours, and pixels at least C apart."""
    is_last = x.shape[1] > 1 and x.stride(1) == 1 and x.stride(3) >= x.shape[1]
    layout = torch.channels_last if is_last else torch.contiguous_format
    return torch.empty([*x.shape[:2], h, w], dtype=x.dtype, device=x.device, memory_format=layout)


def _fake(
    x: torch.Tensor,
    fu: torch.Tensor,
    fd: torch.Tensor,
    b: torch.Tensor | None,
    up: int,
    down: int,
    px0: int,
    px1: int,
    py0: int,
    py1: int,
    gain: float,
    slope: float,
    clamp: float | None,
    flip_filter: bool,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    n, c, h, w = x.shape
    (uw, uh), (dw, dh) = filter_size(fu), filter_size(fd)
    width, height = w * up + px0 + px1 - uw + 1, h * up + py0 + py1 - uh + 1
    signs = [n, c, height, width] if keep else [0]
    y = _like(x, (height - dh) // down + 1, (width - dw) // down + 1)
    return y, x.new_empty(signs, dtype=torch.uint8)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, fu, fd, _b, ctx.up, ctx.down, px0, _, py0, _, gain, ctx.slope, _, ctx.flip, _ = inputs
    ctx.sizes, ctx.gain, ctx.total = (*x.shape[2:], px0, py0), gain * ctx.up**2, _total(x)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], fu, fd)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None, _: None) -> tuple:
    dx = db = None
    want_db = library.wanted(ctx, 3)
    if dy is not None and (ctx.needs_input_grad[0] or want_db):
        signs, fu, fd = ctx.saved_tensors
        h, w, px0, py0 = ctx.sizes
        (uw, uh), (dw, dh) = filter_size(fu), filter_size(fd)
        pads = (dw - 1, dh - 1, uw - px0 - 1, uh - py0 - 1)
        options = (ctx.down, ctx.up, *pads, h, w, ctx.gain, ctx.slope, not ctx.flip, want_db)
        dx, sums = ops.filtered_lrelu_backward(dy, signs, fd, fu, *options)
        if want_db:
            db = sums.unflatten(0, dx.shape[:2]).sum(0).to(ctx.total)
    return (dx, None, None, db, *(None,) * 11)


library.define(
    "filtered_lrelu",
    "(Tensor x, Tensor fu, Tensor fd, Tensor? b, int up, int down, SymInt px0, SymInt px1, SymInt py0, SymInt py1, "
    "float gain, float slope, float? clamp, bool flip_filter, bool keep) -> (Tensor, Tensor)",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
    parameters=(3,),
)


def _fake_backward(
    x: torch.Tensor,
    signs: torch.Tensor,
    fu: torch.Tensor,
    fd: torch.Tensor,
    up: int,
    down: int,
    ux: int,
    uy: int,
    dx: int,
    dy: int,
    out_h: int,
    out_w: int,
    gain: float,
    slope: float,
    flip_filter: bool,
    sums: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    planes = x.shape[0] * x.shape[1]
    return _like(x, out_h, out_w), x.new_empty([planes if sums else 0], dtype=torch.float64)


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, signs, fu, fd, *ctx.options, ctx.sums = inputs
    ctx.shape, ctx.dtype = x.shape, x.dtype
    ctx.save_for_backward(signs, fu, fd)


def _backward_backward(ctx: Any, ops: Any, gradient: torch.Tensor | None, of_sums: torch.Tensor | None) -> tuple:
    """The transpose is the same op: filters, factors and paddings exchanged."""
    signs, fu, fd = ctx.saved_tensors
    up, down, ux, uy, dx, dy, out_h, out_w, gain, slope, flip = ctx.options
    if of_sums is not None and ctx.sums:
        spread = of_sums.to(ctx.dtype).unflatten(0, ctx.shape[:2])[:, :, None, None].expand(-1, -1, out_h, out_w)
        gradient = spread if gradient is None else gradient + spread
    if gradient is None or not ctx.needs_input_grad[0]:
        return (None,) * 16
    (uw, uh), (dw, dh) = filter_size(fu), filter_size(fd)
    pads = (dw - 1 - dx, dh - 1 - dy, uw - 1 - ux, uh - 1 - uy)
    options = (down, up, *pads, *ctx.shape[2:], gain, slope, not flip, False)
    return (ops.filtered_lrelu_backward(gradient, signs, fd, fu, *options)[0], *(None,) * 15)


library.define(
    "filtered_lrelu_backward",
    "(Tensor x, Tensor signs, Tensor fu, Tensor fd, int up, int down, SymInt ux, SymInt uy, SymInt dx, SymInt dy, "
    "SymInt out_h, SymInt out_w, float gain, float slope, bool flip_filter, bool sums) -> (Tensor, Tensor)",
    fake=_fake_backward,
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)
