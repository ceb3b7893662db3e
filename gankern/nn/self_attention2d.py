"""SelfAttention2d."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from gankern.checks import bad_value
from gankern.ops.attention import self_attention2d


class SelfAttention2d(torch.nn.Module):
    """x + gamma * o(attention(theta(x), pool(phi(x)), pool(g(x)))) over pixels; gamma starts at 0, and so x is kept.

    theta and phi have C / 8 channels, g has C / 2; all four are 1x1 convolutions without bias, the pool is 2x2 max.

    Args:
        channels: Channels C of x, at least 8.
        conv: What makes the convolutions, called as torch.nn.Conv2d; one with spectral norm in SAGAN and BigGAN.

    Raises:
        ValueError: there are fewer channels.

    Source: Zhang et al., "Self-Attention Generative Adversarial Networks", 2019, section 3; pooled as in Brock et al.,
        "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019.
    """

    def __init__(self, channels: int, conv: Callable[..., torch.nn.Module] = torch.nn.Conv2d) -> None:
        super().__init__()
        if channels < 8:
            raise bad_value("nn.SelfAttention2d", "channels", "be at least 8", channels)
        self.theta = conv(channels, channels // 8, kernel_size=1, bias=False)
        self.phi = conv(channels, channels // 8, kernel_size=1, bias=False)
        self.g = conv(channels, channels // 2, kernel_size=1, bias=False)
        self.o = conv(channels // 2, channels, kernel_size=1, bias=False)
        self.gamma = torch.nn.Parameter(torch.zeros([]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]; H and W at least 2."""
        phi, g = F.max_pool2d(self.phi(x), 2), F.max_pool2d(self.g(x), 2)
        return torch.addcmul(x, self.gamma.to(x.dtype), self.o(self_attention2d(self.theta(x), phi, g)))
