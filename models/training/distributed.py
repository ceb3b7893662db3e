"""What ranks that train together do together.

Each rank has whole networks and a part of the batch. After the losses of a phase are differentiated, to whatever order,
one sum over the ranks makes every rank's gradients those of the whole batch; then all take the same step. The gradients
of a network lie in one buffer, so this is a single operation. It does not overlap with the backward pass: gradients
are accumulated over several of them and final only after the last, and the sum takes a small part of a step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gankern.nn import synchronise_batch_norm, synchronise_minibatch_stddev

from .. import watch
from ..ranks import everyone, gather_objects, mean_, world_size
from .options import TrainingOptions

if TYPE_CHECKING:
    from .state import TrainingState

# Running means over the images that a rank has seen; as updates are linear, the ranks' mean is that of all images.
RUNNING_MEANS = ("w_avg", "stored_mean", "stored_var", "running_mean", "running_var")


def prepare_networks(G: nn.Module, D: nn.Module, options: TrainingOptions) -> None:
    """Gives every rank the first one's networks, and connects the layers that look at all images of a batch.

    Raises:
        ValueError: A batch cannot be shared out evenly.
    """
    ranks = world_size()
    if ranks == 1:
        return
    growing = options.growth.batch.values() if options.growth is not None else ()
    for batch in (options.batch, *growing):
        if batch % ranks:
            raise ValueError(f"training options: batch must be a multiple of the {ranks} processes, got {batch}")
    for net in (G, D):
        if options.sync_bn:
            synchronise_batch_norm(net, everyone())
        if options.mbstd_global:
            synchronise_minibatch_stddev(net, everyone())
        for tensor in (*net.parameters(), *net.buffers()):
            dist.broadcast(tensor.data, 0)


def average_over_ranks(gradients: Tensor, *networks: nn.Module) -> None:
    """Makes a phase's gradients, and the running means that it moved in the networks, the same on every rank.

    Args:
        gradients: All gradients of a network, each the mean over the rank's images; changed in place.
        networks: Those whose buffers may have changed.
    """
    if world_size() == 1:
        return
    watch.advance()
    mean_(gradients)
    means = [buffer for net in networks for name, buffer in net.named_buffers() if name.endswith(RUNNING_MEANS)]
    if means:  # a few numbers, sent as one tensor
        flat = torch.cat([mean.reshape(-1) for mean in means])
        mean_(flat)
        parts = flat.split([mean.numel() for mean in means])
        torch._foreach_copy_(means, [part.view_as(mean) for part, mean in zip(parts, means, strict=True)])


def together(wanted: Callable[[], bool]) -> Callable[[], bool]:
    """Makes a rank's wish that of all: once any wants it, all do, at the same call.

    Every rank must call the result equally often. An answer is that of the call before, so that nobody waits for it:
    the question goes round on the CPU while the step runs.
    """
    if world_size() == 1:
        return wanted
    decided = False
    asked: tuple[Tensor, dist.Work] | None = None

    def decide() -> bool:
        nonlocal decided, asked
        if decided:
            return True
        if asked is not None:
            vote, work = asked
            work.wait()
            decided = bool(vote)
        if not decided:
            vote = torch.tensor(int(wanted()))
            asked = vote, dist.all_reduce(vote, dist.ReduceOp.MAX, async_op=True)
        return decided

    return decide


def check_ranks_agree(state: TrainingState) -> None:
    """Compares networks, averages and optimisers of all ranks, by a checksum of each tensor.

    Raises:
        ValueError: They differ; ranks and the first tensor are named.
    """
    if world_size() == 1:
        return
    named = list(_tensors(state))
    sums = torch.stack([checksum(tensor) for _, tensor in named]).tolist()
    by_rank = gather_objects(sums)
    for (name, _), values in zip(named, zip(*by_rank, strict=True), strict=True):
        usual = Counter(values).most_common(1)[0][0]
        others = [str(r) for r, value in enumerate(values) if value != usual]
        if others:
            raise ValueError(f"training: {name} of rank {', '.join(others)} is no longer that of the other ranks")


def checksum(tensor: Tensor) -> Tensor:
    """A number, int64 [], on the tensor's device, that changes with any of its bits or their place."""
    size = tensor.element_size()
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[size]
    bits = tensor.detach().contiguous().reshape(-1).view(integer).to(torch.int64)
    places = torch.arange(1, len(bits) + 1, device=bits.device) * 0x9E3779B97F4A7C1  # wraps around
    return ((bits + 1) * (places | 1)).sum()


def _tensors(state: TrainingState) -> Iterator[tuple[str, Tensor]]:
    for net in ("G", "D", "G_ema"):
        for name, tensor in getattr(state, net).state_dict().items():
            yield f"{net}.{name}", tensor
    for opt in ("G_opt", "D_opt"):
        for index, moments in getattr(state, opt).state_dict()["state"].items():
            for name, value in moments.items():
                if isinstance(value, Tensor):
                    yield f"{opt}.{index}.{name}", value.to(state.device)
    yield "pl_mean", state.pl_mean
