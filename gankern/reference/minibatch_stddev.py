"""minibatch_stddev in plain PyTorch."""

from __future__ import annotations

import torch


def minibatch_stddev(
    x: torch.Tensor, group_size: int, num_channels: int, contiguous: bool = False, unbiased: bool = False
) -> torch.Tensor:
    """Appends the standard deviation over groups of samples; arguments as in `gankern.minibatch_stddev`, all given.

    `group_size` (g) divides N and `num_channels` (f) divides C; the members of a group are N / g samples apart, or
    neighbours if `contiguous`.
    """
    n, c, h, w = x.shape
    g, f = group_size, num_channels
    y = x if x.dtype == torch.float64 else x.float()  # a square overflows float16 from 256 on
    if contiguous:
        y = y.reshape(n // g, g, f, c // f, h, w).transpose(0, 1)  # [g, N/g, f, C/f, H, W]
    else:
        y = y.reshape(g, n // g, f, c // f, h, w)  # [g, N/g, f, C/f, H, W]
    y = y - y.mean(dim=0)  # [g, N/g, f, C/f, H, W]
    y = y.square().mean(dim=0)  # [N/g, f, C/f, H, W]
    if unbiased and g > 1:
        y = y * (g / (g - 1))
    y = (y + 1e-8).sqrt()  # [N/g, f, C/f, H, W]
    y = y.mean(dim=[2, 3, 4])[:, :, None, None]  # [N/g, f, 1, 1]
    y = y.repeat_interleave(g, dim=0) if contiguous else y.repeat(g, 1, 1, 1)  # [N, f, 1, 1]
    y = y.expand(n, f, h, w)  # [N, f, H, W]
    return torch.cat([x, y.to(x.dtype)], dim=1)  # [N, C + f, H, W]
