"""styled_bias_act in plain PyTorch."""

from __future__ import annotations

import torch

from gankern.reference.bias_act import bias_act


def styled_bias_act(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """y = clamp(gain * f(scale * x + strength * noise + b)); arguments as in `gankern.styled_bias_act`, all given."""
    scaled = x if scale is None else x * scale.to(x.dtype)[:, :, None, None]  # [N, C, H, W]
    if noise is not None:
        noise = noise.to(x.dtype)  # [H, W] or [1 or N, 1, H, W]
        if strength is not None:
            strength = strength.to(x.dtype)
            noise = noise * (strength[:, None, None] if strength.ndim == 1 else strength)
        # In place where nothing needs what is overwritten. Not addcmul: its derivative makes one more pass over x.
        scaled = scaled + noise if scaled is x else scaled.add_(noise)  # [N, C, H, W]
    return bias_act(scaled, b, 1, act, alpha, gain, clamp, overwrite=scaled is not x)
