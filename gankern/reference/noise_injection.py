"""noise_injection in plain PyTorch."""

from __future__ import annotations

import torch

from gankern.reference.styled_bias_act import styled_bias_act


def noise_injection(x: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor | None) -> torch.Tensor:
    """x + strength * noise; arguments as in `gankern.noise_injection`."""
    return styled_bias_act(x, None, noise, strength, None, "linear", 0.0, 1.0, None)
