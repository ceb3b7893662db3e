"""MinibatchStddev."""

from __future__ import annotations

import torch

from gankern.ops.minibatch_stddev import minibatch_stddev


class MinibatchStddev(torch.nn.Module):
    """Appends the standard deviation over groups of samples, see `gankern.minibatch_stddev`. No parameters."""

    def __init__(self, group_size: int | None = 4, num_channels: int = 1) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C + num_channels, H, W]."""
        return minibatch_stddev(x, self.group_size, self.num_channels)

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}, num_channels={self.num_channels}"
