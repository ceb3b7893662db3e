"""How processes that were started to work together, by `--gpus`, torchrun or Slurm, become the ranks of one run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from . import launch, watch


@contextlib.contextmanager
def joined(device: torch.device, command: str, timeout: float = launch.TIMEOUT) -> Iterator[torch.device]:
    """Joins the processes that were started to work together, if there are any, and leaves them at the end.

    What ranks other than the first print goes nowhere. When one fails all end, and one sentence says why.

    Args:
        device: Where to compute; of several GPUs each process takes the one with its number on its machine.
        command: Name of the subcommand, for that sentence.
        timeout: Seconds without a sign of life after which a rank counts as gone.

    Yields:
        This process's device.
    """
    if not launch.ranks_started() or dist.is_initialized():
        yield device
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = _store(rank, timeout)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", launch.FIRST_ATTEMPT)  # torchrun can start all over
    its_store = dist.PrefixStore(attempt, _store(rank, timeout, client=True))
    guard = watch.Watch(its_store, command, rank, world_size, timeout)
    watch.begin(guard)
    with contextlib.ExitStack() as silence, open(os.devnull, "w") as nowhere:
        if rank > 0:
            silence.enter_context(contextlib.redirect_stdout(nowhere))
            silence.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            device = _own_device(device)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            forever = timedelta(days=30)  # the watch knows better when to give up
            meeting = dist.PrefixStore(attempt, store)
            dist.init_process_group(backend, store=meeting, rank=rank, world_size=world_size, timeout=forever)
            yield device
            guard.leaving = True
            dist.all_reduce(torch.zeros([]))  # nobody leaves before all have finished
        except BaseException as error:
            guard.fail(error)
    guard.stop()
    watch.begin(None)
    dist.destroy_process_group()


def _store(rank: int, timeout: float, client: bool = False) -> dist.TCPStore:
    """Where the ranks meet: at their starter's, or at the first rank's where that has none (Slurm, mpirun).

    `client` is for another connection: one that waits for an answer is held up.
    """
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=rank == 0 and not agent and not client,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        multi_tenant=True,
    )


def _own_device(device: torch.device) -> torch.device:
    if device.type != "cuda":
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        here = os.environ.get("LOCAL_WORLD_SIZE", f"{number + 1} or more")
        raise ValueError(f"expected a GPU for each process of this machine, got {there} GPUs for {here} processes")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
