"""modulated_conv2d in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gankern.reference.bias_act import bias_act
from gankern.reference.conv2d_resample import conv2d_resample


def modulated_conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    styles: torch.Tensor,
    noise: torch.Tensor | None,
    up: int,
    down: int,
    padding: Sequence[int],
    resample_filter: torch.Tensor | None,
    demodulate: bool,
    flip_weight: bool,
    bias: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """Every sample convolved with its own weights; arguments as in `gankern.modulated_conv2d`, all given.

    Written as the paper has it (section 2.2, equations 1 to 3): modulate, demodulate, convolve, sample by sample.
    """
    eps = 1e-8
    w = weight * styles[:, None, :, None, None]  # [N, O, I, k, k]
    if demodulate:
        w = w * (w.square().sum(dim=[2, 3, 4], keepdim=True) + eps).rsqrt()  # [N, O, I, k, k]
    w = w.to(x.dtype)
    samples = [
        conv2d_resample(x[i : i + 1], w[i], resample_filter, up, down, padding, 1, flip_weight, False)
        for i in range(x.shape[0])
    ]
    x = torch.cat(samples)  # [N, O, H, W]
    if noise is not None:
        x = x + noise.to(x.dtype)  # [N, O, H, W]
    return bias_act(x, bias, 1, act, alpha, gain, clamp)
