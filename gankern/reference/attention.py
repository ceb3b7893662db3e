"""attention in plain PyTorch."""

from __future__ import annotations

import torch


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """softmax(scale * q k^T) v; arguments as in `gankern.attention`.

    Two products and a softmax: torch's fused attention has no second derivative, and its forward is slower on the CPU.
    """
    scores = torch.bmm(q if scale == 1 else q * scale, k.mT)  # [N, L, S]
    return torch.bmm(scores.softmax(-1), v)  # [N, L, E]
