"""upfirdn2d as its description says: zeros between the samples, padding, one filter for all channels, decimation."""

import torch
import torch.nn.functional as F

CALLS = []


def setup_filter(f, device="cpu", normalize=True, flip_filter=False, gain=1, separable=None):
    f = torch.as_tensor(1 if f is None else f, dtype=torch.float32)
    f = f[None] if f.ndim == 0 else f
    separable = (f.ndim == 1 and f.numel() >= 8) if separable is None else separable
    f = f.outer(f) if f.ndim == 1 and not separable else f
    f = f / f.sum() if normalize else f
    f = f.flip(list(range(f.ndim))) if flip_filter else f
    return (f * gain ** (f.ndim / 2)).to(device)


def four(padding):
    padding = [padding, padding] if isinstance(padding, int) else list(padding)
    return padding if len(padding) == 4 else [padding[0], padding[0], padding[1], padding[1]]


def two(scale):
    return [scale, scale] if isinstance(scale, int) else list(scale)


def taps(f):
    return (1, 1) if f is None else (f.shape[-1], f.shape[0])


def upfirdn2d(x, f, up=1, down=1, padding=0, flip_filter=False, gain=1, impl="cuda"):
    CALLS.append("upfirdn2d")
    (up_x, up_y), (down_x, down_y), (px0, px1, py0, py1) = two(up), two(down), four(padding)
    f = (torch.ones([1, 1]) if f is None else f).to(x.dtype)
    f = (f.outer(f) if f.ndim == 1 else f) * gain
    n, c, h, w = x.shape
    spread = x.new_zeros([n, c, h, up_y, w, up_x])
    spread[:, :, :, 0, :, 0] = x
    x = spread.reshape(n, c, h * up_y, w * up_x)
    x = F.pad(x, [max(p, 0) for p in (px0, px1, py0, py1)])
    x = x[:, :, max(-py0, 0) : x.shape[2] - max(-py1, 0), max(-px0, 0) : x.shape[3] - max(-px1, 0)]
    kernel = f if flip_filter else f.flip([0, 1])
    x = F.conv2d(x, kernel.expand(c, 1, *f.shape), groups=c)
    return x[:, :, ::down_y, ::down_x]


def filter2d(x, f, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (fw, fh), p = taps(f), four(padding)
    p = [p[0] + fw // 2, p[1] + (fw - 1) // 2, p[2] + fh // 2, p[3] + (fh - 1) // 2]
    return upfirdn2d(x, f, padding=p, flip_filter=flip_filter, gain=gain)


def upsample2d(x, f, up=2, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (fw, fh), p, (ux, uy) = taps(f), four(padding), two(up)
    p = [p[0] + (fw + ux - 1) // 2, p[1] + (fw - ux) // 2, p[2] + (fh + uy - 1) // 2, p[3] + (fh - uy) // 2]
    return upfirdn2d(x, f, up=up, padding=p, flip_filter=flip_filter, gain=gain * ux * uy)


def downsample2d(x, f, down=2, padding=0, flip_filter=False, gain=1, impl="cuda"):
    (fw, fh), p, (dx, dy) = taps(f), four(padding), two(down)
    p = [p[0] + (fw - dx + 1) // 2, p[1] + (fw - dx) // 2, p[2] + (fh - dy + 1) // 2, p[3] + (fh - dy) // 2]
    return upfirdn2d(x, f, down=down, padding=p, flip_filter=flip_filter, gain=gain)
