"""conv2d_resample: a convolution with filtered up- or downsampling, in the cheapest order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from gankern import checks, convolution
from gankern.ops.conv2d import conv2d, conv_transpose2d
from gankern.ops.upfirdn2d import filter_size, parse_padding, upfirdn2d


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: int | Sequence[int] = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
    *,
    precise: bool = False,
    backend: str | None = None,
) -> torch.Tensor:
    """Upsamples, convolves and downsamples: y = down(conv(up(x), w)), each resampling with the FIR filter f.

    All three are linear and shift-invariant, so they commute where the sampling rate allows, and are done in the
    order that costs least: a 1x1 convolution at the lower resolution, a kxk one as a strided (transposed) convolution,
    with f in its kernel where `gankern.convolution.folds_filter` says so.

    Args:
        x: Input [N, I, H, W]; float64, float32, bfloat16 or float16, contiguous or channels_last.
        w: Weight [O, I / groups, kh, kw], of the dtype of x.
        f: Filter from `setup_filter`, 1-D (separable) or 2-D, or None for the identity.
        up: Integer upsampling factor, at least 1.
        down: Integer downsampling factor, at least 1.
        padding: Zeros around the upsampled image: a number, [x, y] or [x_before, x_after, y_before, y_after],
            negative to crop. What the filter needs to keep the image centred is added to it.
        groups: Groups of channels, as in `torch.nn.functional.conv2d`.
        flip_weight: True for a correlation (as `torch.nn.functional.conv2d`), False for a convolution.
        flip_filter: True for a correlation with f, False for a convolution.
        precise: As in `conv2d`.
        backend: 'native', 'triton' or 'eager' of `upfirdn2d`, and 'eager' of `conv2d` too; None chooses.

    Returns:
        Tensor [N, O, H * up / down, W * up / down] for padding (k - 1) / 2, of the dtype and memory format of x.

    Raises:
        TypeError: x or w is not of a floating-point dtype named above, or w is not of the dtype of x.
        ValueError: w does not fit x, a number is out of range, or nothing is left of the image.

    Gradients: x and w, to any order.
    Backends: those of `conv2d` and `upfirdn2d`.
    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B.
    """
    px0, px1, py0, py1 = _check(x, w, f, up, down, padding, groups)
    around = [px0, px1, py0, py1]
    kh, kw = w.shape[2:]
    pointwise = kh == kw == 1
    fir: dict[str, Any] = {"flip_filter": flip_filter, "backend": backend}
    conv: dict[str, Any] = {"groups": groups, "precise": precise, "backend": "eager" if backend == "eager" else None}
    once = (up > 1) != (down > 1)
    if f is not None and once and not pointwise and convolution.folds_filter(x, w, max(filter_size(f))):
        w = _with_filter(w.flip([2, 3]) if flip_weight == (up > 1) else w, f, flip_filter == (up > 1))
        return _resample(x, w, up, down, around, conv, backend)
    if up > 1 and not pointwise:
        # A transposed convolution pads by k - 1 before, and by k - up after, as it omits the last zeros of x.
        rest = [px0 - (kw - 1), px1 - (kw - up), py0 - (kh - 1), py1 - (kh - up)]
        w = _transposed(w.flip([2, 3]) if flip_weight else w, groups)  # [I, O / groups, kh, kw]
        x = conv_transpose2d(x, w, stride=up, **conv)  # [N, O, (H - 1) * up + kh, ...]
        x = upfirdn2d(x, f, padding=rest, gain=up**2, **fir)
        return x if down == 1 else upfirdn2d(x, f, down=down, **fir)
    if not flip_weight and not pointwise:
        w = w.flip([2, 3])
    if up > 1:
        x = upfirdn2d(conv2d(x, w, **conv), f, up=up, padding=around, gain=up**2, **fir)
        return x if down == 1 else upfirdn2d(x, f, down=down, **fir)
    if down > 1 and pointwise:
        return conv2d(upfirdn2d(x, f, down=down, padding=around, **fir), w, **conv)
    if down > 1:
        return conv2d(upfirdn2d(x, f, padding=around, **fir), w, stride=down, **conv)
    if px0 == px1 >= 0 and py0 == py1 >= 0:
        return conv2d(x, w, padding=[py0, px0], **conv)
    return conv2d(upfirdn2d(x, None, padding=around, backend=backend), w, **conv)


def _with_filter(w: torch.Tensor, f: torch.Tensor, flip_filter: bool) -> torch.Tensor:
    """The full convolution of w [O, I, kh, kw] with f: [O, I, kh + taps_y - 1, kw + taps_x - 1]."""
    dtype = torch.promote_types(w.dtype, f.dtype)
    wide, f = w.to(dtype), f.to(dtype)
    f = f.outer(f) if f.ndim == 1 else f
    f = f.flip([0, 1]) if flip_filter else f
    fh, fw = f.shape
    parts = [pad(wide * f[i, j], [j, fw - 1 - j, i, fh - 1 - i]) for i in range(fh) for j in range(fw)]
    return sum(parts[1:], parts[0]).to(w.dtype)


def _resample(
    x: torch.Tensor, w: torch.Tensor, up: int, down: int, padding: list[int], conv: dict[str, Any], backend: str | None
) -> torch.Tensor:
    """One strided convolution: `w` is a true convolution's kernel where it enlarges, else a correlation's."""
    px0, px1, py0, py1 = padding
    if up > 1:
        kh, kw = w.shape[2:]
        rest = [px0 - (kw - 1), px1 - (kw - up), py0 - (kh - 1), py1 - (kh - up)]
        w = _transposed(w * up**2, conv["groups"])  # [I, O / groups, kh, kw]
        if rest[0] == rest[1] <= 0 and rest[2] == rest[3] <= 0:
            return conv_transpose2d(x, w, stride=up, padding=[-rest[2], -rest[0]], **conv)
        return upfirdn2d(conv_transpose2d(x, w, stride=up, **conv), None, padding=rest, backend=backend)
    if px0 == px1 >= 0 and py0 == py1 >= 0:
        return conv2d(x, w, stride=down, padding=[py0, px0], **conv)
    return conv2d(upfirdn2d(x, None, padding=padding, backend=backend), w, stride=down, **conv)


def _transposed(w: torch.Tensor, groups: int) -> torch.Tensor:
    """[O, I / groups, kh, kw] -> [I, O / groups, kh, kw]: a transposed convolution wants its input first."""
    if groups == 1:
        return w.transpose(0, 1)
    o, i, kh, kw = w.shape
    w = w.reshape(groups, o // groups, i, kh, kw).transpose(1, 2)  # [groups, I / groups, O / groups, kh, kw]
    return w.reshape(groups * i, o // groups, kh, kw)


def _check(x: Any, w: Any, f: Any, up: Any, down: Any, padding: Any, groups: Any) -> tuple[int, int, int, int]:
    """Returns the padding of the upsampled image, [x_before, x_after, y_before, y_after], the filter's included."""
    op = "conv2d_resample"
    checks.check_image(op, x)
    checks.check_floating(op, "w", w)
    if w.dtype != x.dtype:
        raise checks.bad_type(op, "w", f"be of the dtype of x, {x.dtype}", w.dtype)
    for name, value in (("up", up), ("down", down), ("groups", groups)):
        if not checks.is_integer(value) or value < 1:
            raise checks.bad_value(op, name, "be an integer of at least 1", repr(value))
    if w.ndim != 4 or w.shape[1] * groups != x.shape[1] or w.shape[0] % groups != 0 or 0 in w.shape:
        expected = f"have shape [O, I / groups, kh, kw] with I = {x.shape[1]}, groups = {groups}"
        raise checks.bad_value(op, "w", expected, f"{list(w.shape)} (x is {list(x.shape)})")
    checks.check_same_device(op, "w", w, x)
    if f is not None:
        checks.check_floating(op, "f", f)
        if f.ndim not in (1, 2):
            raise checks.bad_value(op, "f", "be None or have shape [taps] or [taps_y, taps_x]", list(f.shape))
    px0, px1, py0, py1 = parse_padding(op, padding)
    (kh, kw), (fw, fh) = w.shape[2:], filter_size(f)
    px0, px1 = _with_filter_padding(px0, px1, up, down, fw)
    py0, py1 = _with_filter_padding(py0, py1, up, down, fh)
    passes = (up > 1) + (down > 1)
    height = x.shape[2] * up + py0 + py1 - (kh - 1) - (fh - 1) * passes
    width = x.shape[3] * up + px0 + px1 - (kw - 1) - (fw - 1) * passes
    if height < 1 or width < 1:
        expected = f"leave an image of at least 1x1 before downsampling (x is {list(x.shape)}, w {list(w.shape)})"
        raise checks.bad_value(op, "padding", expected, f"{padding} which leaves {height}x{width}")
    return px0, px1, py0, py1


def _with_filter_padding(before: int, after: int, up: int, down: int, taps: int) -> tuple[int, int]:
    """What keeps the image centred along one axis, as in `upsample2d` and `downsample2d`."""
    if up > 1:
        before, after = before + (taps + up - 1) // 2, after + (taps - up) // 2
    if down > 1:
        before, after = before + (taps - down + 1) // 2, after + (taps - down) // 2
    return before, after
