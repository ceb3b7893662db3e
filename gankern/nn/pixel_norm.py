"""PixelNorm."""

from __future__ import annotations

import torch

from gankern.ops.pixel_norm import pixel_norm


class PixelNorm(torch.nn.Module):
    """Scales the channels of every pixel to unit second moment, see `gankern.pixel_norm`. No parameters."""

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, ...] -> [N, C, ...]."""
        return pixel_norm(x, eps=self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
