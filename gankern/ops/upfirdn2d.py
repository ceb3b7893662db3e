"""upfirdn2d: upsample, pad, filter, downsample, in one pass over memory; and the resampling filters built on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gankern import checks, dispatch, library
from gankern.reference import upfirdn2d as reference

MAX_TAPS = 128
MAX_SCALE = 128
MAX_PADDING = 2**31 - 1

Scale = int | Sequence[int]
Padding = int | Sequence[int]


def setup_filter(
    f: torch.Tensor | Sequence | float | None,
    device: torch.device | str = "cpu",
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Prepares a FIR filter for `upfirdn2d`: the outer product of a short 1-D filter, its sum made 1.

    Args:
        f: Taps [taps] or [taps_y, taps_x], a number, or None (the identity).
        device: Where the filter goes.
        normalize: Whether the taps are divided by their sum, so that a flat image keeps its value.
        flip_filter: Whether the taps are flipped.
        gain: Scale for the signal's magnitude; of each axis its square root.
        separable: Whether a 1-D filter stays 1-D; None keeps it so from 8 taps on.

    Returns:
        float32 tensor [taps_y, taps_x], or [taps] if separable.

    Raises:
        ValueError: f is empty or has more than two dimensions, or separable is asked of a 2-D filter.
    """
    checks.check_number("setup_filter", "gain", gain)
    try:
        taps = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # a string, rows of different lengths
        raise checks.bad_value("setup_filter", "f", "be a number or an array of numbers", repr(f)) from error
    if taps.ndim > 2 or taps.numel() == 0:
        raise checks.bad_value("setup_filter", "f", "be a number or have shape [taps] or [h, w]", list(taps.shape))
    if taps.ndim == 2 and separable:
        raise checks.bad_value("setup_filter", "separable", "be False or None for a 2-D filter", separable)
    if taps.ndim == 0:
        taps = taps[None]
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= 8
    if taps.ndim == 1 and not separable:
        taps = taps.outer(taps)  # [taps_y, taps_x]
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(list(range(taps.ndim)))
    return (taps * gain ** (taps.ndim / 2)).to(device)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Scale = 1,
    down: Scale = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Upsamples, pads, filters and downsamples each channel of a batch of images.

    1. Inserts up - 1 zeros after every sample. 2. Pads with zeros, or crops where the number is negative.
    3. Convolves with f. 4. Keeps every down-th sample. 5. Multiplies by gain. Of size
    (in * up + before + after - taps) // down + 1 along each axis.

    Args:
        x: Images [N, C, H, W], float64, float32, bfloat16 or float16, any strides.
        f: Filter [taps_y, taps_x], or [taps] to be applied along x and along y, float32, at most 128 taps an
            axis, on the device of x (see `setup_filter`); None for the identity.
        up: Integer factor, or [x, y]; 1 to 128.
        down: Integer factor, or [x, y]; 1 to 128.
        padding: Pixels of the upsampled image: a number, [x, y] or [x_before, x_after, y_before, y_after].
        flip_filter: False is a convolution, True a correlation.
        gain: Scale of the result.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, out_H, out_W] of the dtype of x; channels_last if x is, else contiguous.

    Raises:
        TypeError: x or f is not of a dtype named above, a factor or a padding is not an integer.
        ValueError: a shape, factor or padding does not fit; the filter is larger than the padded image.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, to any order (the gradient is the same op, up and down exchanged). None for f.
    Backends: native (CPU, CUDA), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 4; Vaidyanathan,
        "Multirate Systems and Filter Banks", 1993, chapter 4.
    """
    checks.check_image("upfirdn2d", x)
    up_x, up_y = parse_scaling("upfirdn2d", "up", up)
    down_x, down_y = parse_scaling("upfirdn2d", "down", down)
    px0, px1, py0, py1 = parse_padding("upfirdn2d", padding)
    checks.check_number("upfirdn2d", "gain", gain)
    if f is None:
        f = torch.ones([1, 1], dtype=torch.float32, device=x.device)
    check_filter("upfirdn2d", x, f, (up_x, up_y), (px0, px1, py0, py1))
    chosen = dispatch.choose("upfirdn2d", x.device.type, backend)
    if chosen == "eager":
        padding = (px0, px1, py0, py1)
        return reference.upfirdn2d(x, f, (up_x, up_y), (down_x, down_y), padding, bool(flip_filter), float(gain))
    return library.ops(chosen).upfirdn2d(
        x, f, up_x, up_y, down_x, down_y, px0, px1, py0, py1, bool(flip_filter), float(gain)
    )


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Filters images, keeping their size; `padding` is added to that. Arguments as in `upfirdn2d`."""
    fw, fh = filter_size(f)
    px0, px1, py0, py1 = parse_padding("filter2d", padding)
    padding = [px0 + fw // 2, px1 + (fw - 1) // 2, py0 + fh // 2, py1 + (fh - 1) // 2]
    return upfirdn2d(x, f, padding=padding, flip_filter=flip_filter, gain=gain, backend=backend)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Scale = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Enlarges images `up` times, keeping their magnitude; `padding` is added to the result. See `upfirdn2d`."""
    scale, padding = centred_upsampling("upsample2d", f, up, padding)
    gain = gain * scale[0] * scale[1]
    return upfirdn2d(x, f, up=scale, padding=padding, flip_filter=flip_filter, gain=gain, backend=backend)


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: Scale = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Shrinks images `down` times; `padding` is added to the input. See `upfirdn2d`."""
    down_x, down_y = parse_scaling("downsample2d", "down", down)
    fw, fh = filter_size(f)
    px0, px1, py0, py1 = parse_padding("downsample2d", padding)
    padding = [
        px0 + (fw - down_x + 1) // 2,
        px1 + (fw - down_x) // 2,
        py0 + (fh - down_y + 1) // 2,
        py1 + (fh - down_y) // 2,
    ]
    return upfirdn2d(x, f, down=[down_x, down_y], padding=padding, flip_filter=flip_filter, gain=gain, backend=backend)


def centred_upsampling(op: str, f: Any, up: Any, padding: Any) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The factors (x, y), and the padding of `upfirdn2d` that keeps the image centred; `padding` is added to that."""
    up_x, up_y = parse_scaling(op, "up", up)
    fw, fh = filter_size(f)
    px0, px1, py0, py1 = parse_padding(op, padding)
    pad_x = (px0 + (fw + up_x - 1) // 2, px1 + (fw - up_x) // 2)
    pad_y = (py0 + (fh + up_y - 1) // 2, py1 + (fh - up_y) // 2)
    return (up_x, up_y), (*pad_x, *pad_y)


def parse_scaling(op: str, argument: str, scaling: Any) -> tuple[int, int]:
    """A factor, or [x, y], as (x, y)."""
    pair = (scaling, scaling) if isinstance(scaling, int | torch.SymInt) else _sequence(scaling)
    if len(pair) != 2 or not all(checks.is_integer(s) for s in pair):
        raise checks.bad_type(op, argument, "be an integer or two integers [x, y]", repr(scaling))
    if not (1 <= pair[0] <= MAX_SCALE and 1 <= pair[1] <= MAX_SCALE):
        raise checks.bad_value(op, argument, f"be in [1, {MAX_SCALE}]", repr(scaling))
    return pair[0], pair[1]


def parse_padding(op: str, padding: Any) -> tuple[int, int, int, int]:
    """A number, [x, y] or [x_before, x_after, y_before, y_after], as the last."""
    values = (padding,) * 2 if isinstance(padding, int | torch.SymInt) else _sequence(padding)
    if len(values) not in (2, 4) or not all(checks.is_integer(p) for p in values):
        expected = "be an integer, [x, y] or [x_before, x_after, y_before, y_after]"
        raise checks.bad_type(op, "padding", expected, repr(padding))
    if not all(-MAX_PADDING <= p <= MAX_PADDING for p in values):
        raise checks.bad_value(op, "padding", f"be in [-{MAX_PADDING}, {MAX_PADDING}]", repr(padding))
    px0, px1, py0, py1 = (values[0], values[0], values[1], values[1]) if len(values) == 2 else values
    return px0, px1, py0, py1


def _sequence(value: Any) -> tuple:
    return tuple(value) if isinstance(value, Sequence) else ()


def filter_size(f: Any) -> tuple[int, int]:
    """(taps along x, taps along y) of a filter, [taps] or [taps_y, taps_x]."""
    if f is None:
        return 1, 1
    checks.check_tensor("upfirdn2d", "f", f)
    if f.ndim not in (1, 2):
        raise checks.bad_value("upfirdn2d", "f", "have shape [taps] or [taps_y, taps_x]", list(f.shape))
    return f.shape[-1], f.shape[0]


def check_filter(
    op: str, x: torch.Tensor, f: torch.Tensor, up: tuple[int, int], padding: tuple[int, int, int, int]
) -> None:
    """f is a filter that fits into the upsampled and padded image."""
    checks.check_tensor(op, "f", f)
    if f.dtype != torch.float32:
        raise checks.bad_type(op, "f", "be float32 (see setup_filter)", f.dtype)
    if f.ndim not in (1, 2) or f.numel() == 0 or max(f.shape) > MAX_TAPS:
        expected = f"have shape [taps] or [taps_y, taps_x] with 1 to {MAX_TAPS} taps"
        raise checks.bad_value(op, "f", expected, list(f.shape))
    if f.requires_grad:
        raise checks.bad_value(op, "f", "not require a gradient: there is none", "requires_grad=True")
    checks.check_same_device(op, "f", f, x)
    fw, fh = filter_size(f)
    width = x.shape[3] * up[0] + padding[0] + padding[1]
    height = x.shape[2] * up[1] + padding[2] + padding[3]
    if width < fw or height < fh:
        expected = f"be no larger than the upsampled and padded image [{height}, {width}]"
        raise checks.bad_value(op, "f", expected, f"[{fh}, {fw}] (x is {list(x.shape)})")


def output_size(size: int, up: int, down: int, before: int, after: int, taps: int) -> int:
    return (size * up + before + after - taps) // down + 1


def _fake(
    x: torch.Tensor,
    f: torch.Tensor,
    up_x: int,
    up_y: int,
    down_x: int,
    down_y: int,
    px0: int,
    px1: int,
    py0: int,
    py1: int,
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    n, c, h, w = x.shape
    fw, fh = filter_size(f)
    height = output_size(h, up_y, down_y, py0, py1, fh)
    width = output_size(w, up_x, down_x, px0, px1, fw)
    return torch.empty([n, c, height, width], dtype=x.dtype, device=x.device, memory_format=library.memory_format(x))


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, f, *ctx.options = inputs
    ctx.sizes = (*x.shape[2:], *output.shape[2:])
    ctx.save_for_backward(f)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    """The transpose: up and down exchanged, the filter flipped, the padding that restores the size of x."""
    dx = None
    if dy is not None and ctx.needs_input_grad[0]:
        (f,) = ctx.saved_tensors
        up_x, up_y, down_x, down_y, px0, _, py0, _, flip_filter, gain = ctx.options
        in_h, in_w, out_h, out_w = ctx.sizes
        fw, fh = filter_size(f)
        pad_x = (fw - px0 - 1, in_w * up_x - out_w * down_x + px0 - up_x + 1)
        pad_y = (fh - py0 - 1, in_h * up_y - out_h * down_y + py0 - up_y + 1)
        dx = ops.upfirdn2d(dy, f, down_x, down_y, up_x, up_y, *pad_x, *pad_y, not flip_filter, gain)
    return (dx, *(None,) * 11)


library.define(
    "upfirdn2d",
    "(Tensor x, Tensor f, int up_x, int up_y, int down_x, int down_y, "
    "SymInt px0, SymInt px1, SymInt py0, SymInt py1, bool flip_filter, float gain) -> Tensor",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
)
