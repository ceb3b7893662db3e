"""MinibatchStddev, and what concerns all of them in a network."""

from __future__ import annotations

import torch
import torch.distributed as dist

from gankern.ops.minibatch_stddev import minibatch_stddev


class MinibatchStddev(torch.nn.Module):
    """Appends the standard deviation over groups of samples, see `gankern.minibatch_stddev`. No parameters."""

    def __init__(
        self,
        group_size: int | None = 4,
        num_channels: int = 1,
        *,
        grouping: str = "strided",
        unbiased: bool = False,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_channels = num_channels
        self.grouping = grouping
        self.unbiased = unbiased
        self.process_group = process_group

    def __getstate__(self) -> dict:
        """A process group lives and dies with its process; copies, e.g. of the average, take each rank by itself."""
        return {**super().__getstate__(), "process_group": None}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] -> [N, C + num_channels, H, W]."""
        return minibatch_stddev(
            x,
            self.group_size,
            self.num_channels,
            grouping=self.grouping,
            unbiased=self.unbiased,
            process_group=self.process_group,
        )

    def extra_repr(self) -> str:
        text = f"group_size={self.group_size}, num_channels={self.num_channels}"
        if self.grouping != "strided":
            text += f", grouping='{self.grouping}'"
        return text + ", unbiased=True" if self.unbiased else text


def synchronise_minibatch_stddev(network: torch.nn.Module, process_group: dist.ProcessGroup | None) -> None:
    """Makes the batches of all processes one batch to every minibatch standard deviation of a network.

    Args:
        network: Changed in place; its copies are not synchronised.
        process_group: Processes that run the network together, e.g. `dist.group.WORLD`, as in
            `gankern.minibatch_stddev`; None for this one alone.
    """
    for module in network.modules():
        if isinstance(module, MinibatchStddev):
            module.process_group = process_group
