"""The processes that work on one run or one measurement, its ranks: who does what, and how their results become one.

Without `torch.distributed` there is one rank, number 0, and everything here does nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from . import watch

P = ParamSpec("P")
T = TypeVar("T")


def rank() -> int:
    """Number of this process, 0 without `torch.distributed`."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes, 1 without `torch.distributed`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def everyone() -> dist.ProcessGroup | None:
    """The group of all ranks, for ops that take statistics across them; None where there is but one."""
    return dist.group.WORLD if world_size() > 1 else None


def sum_(*tensors: Tensor) -> None:
    """Replaces each tensor, on every rank, by its sum over the ranks; the host does not wait for a GPU."""
    if world_size() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def mean_(*tensors: Tensor) -> None:
    """Replaces each tensor, on every rank, by its mean over the ranks; the host does not wait for a GPU."""
    if world_size() > 1:
        sum_(*tensors)
        torch._foreach_div_(tensors, world_size())


def shares(num: int, batch: int) -> Iterator[tuple[int, int]]:
    """This rank's batches [first, last) of `num` items: in turn, the same batches for any number of ranks."""
    for first in range(rank() * batch, num, world_size() * batch):
        yield first, min(first + batch, num)


def gather_rows(rows: Tensor | None) -> Tensor:
    """The rows of all ranks, rank after rank; every rank gets them.

    Args:
        rows: [n, ...], n different on each rank, the rest of the shape and the dtype alike; None for no rows.

    Returns:
        [sum of n, ...].

    Raises:
        ValueError: No rank has rows.
    """
    facts = gather_objects(None if rows is None else (rows.shape, rows.dtype))
    known = [fact for fact in facts if fact is not None]
    if not known:
        raise ValueError("evaluate: there is nothing to measure, no rank has seen an image")
    counts = [fact[0][0] if fact else 0 for fact in facts]
    shape, dtype = known[0]
    if rows is None:
        rows = torch.empty([0, *shape[1:]], dtype=dtype)
    if world_size() == 1:
        return rows
    place = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    padded = torch.zeros([max(counts), *shape[1:]], dtype=dtype, device=place)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:n] for part, n in zip(parts, counts)]).to(rows.device)


def gather_objects(value: Any) -> list[Any]:
    """The values of all ranks, on every rank."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_first_rank(value: Any) -> Any:
    """What rank 0 has, on every rank."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def by_first_rank(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns to rank 0, on every rank; the others do not call it."""
    if rank() > 0:
        return from_first_rank(None)
    with watch.busy():
        value = function(*args, **kwargs)
    return from_first_rank(value)


def on_first_rank(function: Callable[P, None]) -> Callable[P, None]:
    """Decorates what writes for all: on other ranks it does nothing, and they wait for as long as it takes."""

    @functools.wraps(function)
    def on_rank_0(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            with watch.busy():
                function(*args, **kwargs)

    return on_rank_0


class Rows:
    """Collects one row per image, and puts the rows of all ranks into the images' order."""

    def __init__(self) -> None:
        self.numbers: list[Tensor] = []
        self.rows: list[Tensor] = []

    def add(self, first: int, rows: Tensor) -> None:
        """Adds rows [n, ...] of the items number `first` to first + n - 1; they are kept on the CPU."""
        self.numbers.append(torch.arange(first, first + len(rows)))
        self.rows.append(rows.cpu())

    def gather(self) -> Tensor:
        """All rows [N, ...] of all ranks, in the items' order.

        Raises:
            ValueError: There is none.
        """
        numbers = gather_rows(torch.cat(self.numbers) if self.numbers else None)  # [N]
        return gather_rows(torch.cat(self.rows) if self.rows else None)[numbers.argsort()]
