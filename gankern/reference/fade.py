"""fade in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def fade(new: torch.Tensor, old: torch.Tensor | None, alpha: torch.Tensor | float) -> torch.Tensor:
    """lerp(old, new, alpha), old doubled in size if it has half of new's, and new's own details left out if None."""
    weight = alpha.to(new.dtype) if isinstance(alpha, torch.Tensor) else alpha
    return torch.lerp(new, in_size_of(new, old), 1 - weight)  # in the memory format of new


def in_size_of(new: torch.Tensor, old: torch.Tensor | None) -> torch.Tensor:
    """What new is faded into: old in the size of new, or new without its details."""
    if old is None:
        old = F.avg_pool2d(new, 2) if new.numel() else new
    if old.shape == new.shape:
        return old
    if new.numel() == 0:
        return old.repeat_interleave(2, 2).repeat_interleave(2, 3)  # there are no channels or images to interpolate
    return F.interpolate(old, size=new.shape[2:], mode="nearest")
