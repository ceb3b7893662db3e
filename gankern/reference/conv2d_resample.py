"""conv2d_resample in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gankern.reference.upfirdn2d import upfirdn2d


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None,
    up: int,
    down: int,
    padding: Sequence[int],
    groups: int,
    flip_weight: bool,
    flip_filter: bool,
) -> torch.Tensor:
    """Upsample, convolve, downsample, one after the other; arguments as in `gankern.conv2d_resample`, all given.

    `padding` is [px0, px1, py0, py1] of the convolution; what the filter needs to keep x centred is added here.
    """
    f = torch.ones([1, 1], device=x.device) if f is None else f
    px0, px1, py0, py1 = padding
    fh, fw = f.shape[0], f.shape[-1]
    if up > 1:
        px0, px1 = px0 + (fw + up - 1) // 2, px1 + (fw - up) // 2
        py0, py1 = py0 + (fh + up - 1) // 2, py1 + (fh - up) // 2
    if down > 1:
        px0, px1 = px0 + (fw - down + 1) // 2, px1 + (fw - down) // 2
        py0, py1 = py0 + (fh - down + 1) // 2, py1 + (fh - down) // 2
    if up > 1:
        x = upfirdn2d(x, f, (up, up), (1, 1), (px0, px1, py0, py1), flip_filter, up**2)
    else:
        x = F.pad(x, [px0, px1, py0, py1])
    x = F.conv2d(x, w if flip_weight else w.flip([2, 3]), groups=groups)  # [N, O, H, W]
    if down > 1:
        x = upfirdn2d(x, f, (1, 1), (down, down), (0, 0, 0, 0), flip_filter, 1)
    return x
