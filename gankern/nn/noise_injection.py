"""NoiseInjection."""

from __future__ import annotations

import torch

from gankern.ops.noise_injection import noise_injection


class NoiseInjection(torch.nn.Module):
    """Adds random noise of a learned strength, see `gankern.noise_injection`; the strength starts at 0.

    Args:
        num_channels: One strength for each of so many channels; None for one strength in all.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, figure 1b
        (per channel); Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020 (one in all).
    """

    def __init__(self, num_channels: int | None = None) -> None:
        super().__init__()
        self.strength = torch.nn.Parameter(torch.zeros([] if num_channels is None else [num_channels]))

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]; without `noise` [N, 1, H, W] it is drawn from N(0, 1)."""
        if noise is None:
            noise = torch.randn([x.shape[0], 1, *x.shape[2:]], dtype=x.dtype, device=x.device)  # [N, 1, H, W]
        return noise_injection(x, noise, self.strength)

    def extra_repr(self) -> str:
        return "one strength" if self.strength.ndim == 0 else f"num_channels={self.strength.shape[0]}"
