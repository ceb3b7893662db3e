"""upfirdn2d in plain PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    padding: tuple[int, int, int, int],
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """Zero insertion, padding, FIR filter, decimation; arguments as in `gankern.upfirdn2d`, all given.

    A 1-D filter is applied along x, then along y. Depthwise convolutions do the work: strided for down, transposed
    for up, which is 4 to 20 times faster than inserting the zeros. On the CPU those of 16-bit types take many
    times as long as the same in float32, in which they are done there.
    """
    if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
        return upfirdn2d(x.float(), f, up, down, padding, flip_filter, gain).to(x.dtype)
    f = f.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    if not flip_filter:
        f = f.flip(list(range(f.ndim)))
    if f.ndim == 2:
        return _filter(x, f * gain, up, down, padding)
    root = math.sqrt(abs(gain))
    x = _filter(x, f[None, :] * root, (up[0], 1), (down[0], 1), (*padding[:2], 0, 0))
    return _filter(x, f[:, None] * math.copysign(root, gain), (1, up[1]), (1, down[1]), (0, 0, *padding[2:]))


def _filter(
    x: torch.Tensor, f: torch.Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> torch.Tensor:
    """One correlation with the taps f [kh, kw]."""
    channels = x.shape[1]
    if x.shape[0] * channels == 0:
        return _empty(x, f, up, down, padding)
    weight = f.to(x.dtype).expand(channels, 1, *f.shape)  # [C, 1, kh, kw]
    if up == (1, 1):
        x = _pad(x, padding)
        return F.conv2d(x, weight, stride=(down[1], down[0]), groups=channels)
    crop_x = _crop(f.shape[1], up[0], padding[0], padding[1])
    crop_y = _crop(f.shape[0], up[1], padding[2], padding[3])
    inside = (max(0, min(crop_y)), max(0, min(crop_x)))  # what the convolution itself can leave out, rows first
    weight = weight.flip([2, 3])
    x = F.conv_transpose2d(x, weight, stride=(up[1], up[0]), padding=inside, groups=channels)
    rest = (inside[1] - crop_x[0], inside[1] - crop_x[1], inside[0] - crop_y[0], inside[0] - crop_y[1])
    x = _pad(x, rest)
    return x[:, :, :: down[1], :: down[0]].clone() if down != (1, 1) else x  # dense again


def _pad(x: torch.Tensor, padding: tuple[int, int, int, int]) -> torch.Tensor:
    """Pads with zeros, then crops where a number is negative: an image may be cropped away whole."""
    if any(p > 0 for p in padding):
        x = F.pad(x, [max(p, 0) for p in padding])
    if any(p < 0 for p in padding):
        x = F.pad(x, [min(p, 0) for p in padding])
    return x


def _crop(taps: int, up: int, before: int, after: int) -> tuple[int, int]:
    """What a full transposed convolution has too much at both ends; it has no zeros after the last sample."""
    return taps - 1 - before, taps - up - after


def _empty(
    x: torch.Tensor, f: torch.Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> torch.Tensor:
    """The empty result of an empty batch, still a function of x: convolutions refuse one without channels."""
    n, c, h, w = x.shape
    out_h = (h * up[1] + padding[2] + padding[3] - f.shape[0]) // down[1] + 1
    out_w = (w * up[0] + padding[0] + padding[1] - f.shape[1]) // down[0] + 1
    return x[:, :, :1, :1].expand(n, c, out_h, out_w).clone()
