"""upsample_add: the output skip of a generator, the image so far upsampled plus a new one, in one pass over memory."""

from __future__ import annotations

from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.ops.upfirdn2d import (
    Padding,
    Scale,
    centred_upsampling,
    check_filter,
    filter_size,
    output_size,
)
from gankern.reference import upsample_add as reference


def upsample_add(
    x: torch.Tensor | None,
    y: torch.Tensor,
    f: torch.Tensor | None,
    up: Scale = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Enlarges images `up` times and adds others: upsample2d(x, f, up) + y.

    Args:
        x: The images so far [N, C, H, W], float64, float32, bfloat16 or float16, any strides; or None, if there
            are none yet.
        y: What they get added [N, C, H * up, W * up], of any dtype named above and any strides.
        f: Filter as in `upsample2d`; None for the identity.
        up: Integer factor, or [x, y]; 1 to 128.
        padding: Pixels added to the enlarged image, as in `upsample2d`.
        flip_filter: False is a convolution, True a correlation.
        gain: Scale of the enlarged images.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor of the shape of y, of the dtype of x; channels_last if x is, else contiguous. Without x it is y,
        contiguous, in float32 unless y is float64.

    Raises:
        TypeError: a dtype is none of those above, a factor or a padding is not an integer.
        ValueError: shapes, factor or padding do not fit.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x and y, to any order. To x the transposed resampling, to y the gradient itself.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 4.1 (output skips).
    """
    op = "upsample_add"
    checks.check_floating(op, "y", y)
    if x is None:
        dtype = torch.float64 if y.dtype == torch.float64 else torch.float32
        return y.to(dtype=dtype, memory_format=torch.contiguous_format)
    checks.check_image(op, x)
    scale, padding = centred_upsampling(op, f, up, padding)
    checks.check_number(op, "gain", gain)
    if f is None:
        f = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    check_filter(op, x, f, scale, padding)
    checks.check_same_device(op, "y", y, x)
    shape = _shape(x, f, *scale, *padding)
    if list(y.shape) != shape:
        raise checks.bad_value(op, "y", f"have the shape of the enlarged images, {shape}", list(y.shape))
    gain = float(gain) * scale[0] * scale[1]
    chosen = dispatch.choose(op, x.device.type, backend)
    if chosen == "eager":
        return reference.upsample_add(x, y, f, scale, padding, bool(flip_filter), gain)
    return library.ops(chosen).upsample_add(x, y, f, *scale, *padding, bool(flip_filter), gain)


def _shape(x: torch.Tensor, f: torch.Tensor, up_x: int, up_y: int, px0: int, px1: int, py0: int, py1: int) -> list[int]:
    fw, fh = filter_size(f)
    height = output_size(x.shape[2], up_y, 1, py0, py1, fh)
    return [x.shape[0], x.shape[1], height, output_size(x.shape[3], up_x, 1, px0, px1, fw)]


def _fake(x: torch.Tensor, y: torch.Tensor, f: torch.Tensor, *options: Any) -> torch.Tensor:
    return torch.empty(
        _shape(x, f, *options[:6]), dtype=x.dtype, device=x.device, memory_format=library.memory_format(x)
    )


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, y, f, *ctx.options = inputs
    ctx.sizes, ctx.dtype = (*x.shape[2:], *y.shape[2:]), y.dtype
    ctx.save_for_backward(f)


def _backward(ctx: Any, ops: Any, d: torch.Tensor | None) -> tuple:
    """To x what upfirdn2d sends back: down instead of up, the filter flipped, the padding that restores its size."""
    dx = dy = None
    if d is not None and ctx.needs_input_grad[0]:
        (f,) = ctx.saved_tensors
        up_x, up_y, px0, _, py0, _, flip_filter, gain = ctx.options
        in_h, in_w, out_h, out_w = ctx.sizes
        fw, fh = filter_size(f)
        pad_x = (fw - px0 - 1, in_w * up_x - out_w + px0 - up_x + 1)
        pad_y = (fh - py0 - 1, in_h * up_y - out_h + py0 - up_y + 1)
        dx = ops.upfirdn2d(d, f, 1, 1, up_x, up_y, *pad_x, *pad_y, not flip_filter, gain)
    if d is not None and ctx.needs_input_grad[1]:
        dy = d.to(ctx.dtype)
    return (dx, dy, *(None,) * 9)


library.define(
    "upsample_add",
    "(Tensor x, Tensor y, Tensor f, int up_x, int up_y, SymInt px0, SymInt px1, SymInt py0, SymInt py1, "
    "bool flip_filter, float gain) -> Tensor",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
)
