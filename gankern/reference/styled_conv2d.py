"""styled_conv2d in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gankern.reference.styled_bias_act import styled_bias_act


def styled_conv2d(
    x: torch.Tensor,
    w: torch.Tensor,
    styles: torch.Tensor | None,
    dcoefs: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    padding: Sequence[int],
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """y = clamp(gain * f(dcoefs * conv2d(styles * x, w) + strength * noise + b)); arguments as in the op."""
    if styles is not None:
        x = x * styles.to(x.dtype)[:, :, None, None]  # [N, I, H, W]
    x = F.conv2d(x, w.to(x.dtype), padding=list(padding))  # [N, O, H, W]
    return styled_bias_act(x, dcoefs, noise, strength, b, act, alpha, gain, clamp)
