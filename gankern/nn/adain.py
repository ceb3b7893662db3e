"""AdaIN."""

from __future__ import annotations

import torch

from gankern.nn.linear import EqualizedLinear
from gankern.ops.adain import adain


class AdaIN(torch.nn.Module):
    """Adaptive instance normalisation: w gives every channel a scale and a shift, see `gankern.adain`.

    y = (1 + s) * (x - mean) / sqrt(var + eps) + t with (s, t) = affine(w), an `EqualizedLinear` whose bias starts at 0.

    Args:
        w_dim: Features of w.
        channels: Of x.
        eps: Added to the variance.

    Source: Karras et al., "A Style-Based Generator Architecture for GANs", 2019, section 2.
    """

    def __init__(self, w_dim: int, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.affine = EqualizedLinear(w_dim, 2 * channels)

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """x [N, C, H, W], w [N, w_dim] -> [N, C, H, W]."""
        scale, shift = self.affine(w).chunk(2, dim=1)
        return adain(x, 1 + scale, shift, self.eps)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
