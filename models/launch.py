"""`--gpus`: starts the processes of a run on this machine, as torchrun would, and waits for them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from .arguments import boolean

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

TIMEOUT = 300.0  # seconds without a sign of life after which a rank counts as gone
GRACE = 6.0  # seconds that the other processes of a failed run have, to say why and to end
FIRST_ATTEMPT = "0"  # of what torchrun may start several times
FORWARDED = (signal.SIGINT, signal.SIGTERM, *([signal.SIGUSR1] if os.name == "posix" else []))


def add_rank_options(train: argparse.ArgumentParser) -> None:
    """Adds the options of runs with several processes to the command's parser."""
    flag: dict[str, Any] = {"type": boolean, "nargs": "?", "const": True, "metavar": "0|1"}
    add = train.add_argument_group("several GPUs, or processes on a CPU; torchrun's are found too").add_argument
    add("--gpus", type=int, metavar="N", help="start N processes here, a GPU each; the batch is shared out [1]")
    add("--sync-bn", **flag, help="batch normalisation over the whole batch, not each process's part [from cfg]")
    add("--mbstd-global", **flag, help="the same for minibatch standard deviation, where its groups are larger [0]")
    add(
        "--dist-timeout", type=_seconds, default=TIMEOUT, metavar="S", help="seconds to wait for a silent process [300]"
    )


def _seconds(text: str) -> float:
    if not float(text) > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text}")
    return float(text)


def ranks_started() -> int:
    """How many processes were started to work together, this one among them; 0 for none but this."""
    num = int(os.environ.get("WORLD_SIZE", "1"))
    return num if num > 1 else 0


def ranks_to_start(gpus: int | None, device: torch.device) -> int:
    """How many processes `--gpus` asks for that are not there yet, 0 for none.

    Raises:
        ValueError: Their number is not positive, not that of GPUs, or not that of the processes that are there.
    """
    if gpus is None:
        return 0
    if gpus < 1:
        raise ValueError(f"--gpus must be positive, got {gpus}")
    num = ranks_started()
    if num and gpus != num:
        raise ValueError(f"--gpus must be the number of processes that were started, {num}, got {gpus}")
    if device.type == "cuda" and not num:
        import torch

        if gpus > torch.cuda.device_count():
            raise ValueError(f"--gpus {gpus}: this machine has {torch.cuda.device_count()}")
    return gpus if gpus > 1 and not num else 0


def launch(num: int, command: Sequence[str]) -> int:
    """Starts a command several times on this machine, as ranks that work together, and waits for all.

    Unlike torchrun it gives them the time that they need for a last snapshot after a signal, and how a rank was killed
    is known to those that remain.

    Args:
        num: Number of processes.
        command: Program and arguments of each.

    Returns:
        Exit status: 0, or 1 if any of them failed.
    """
    from torch.distributed import PrefixStore, TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num)}
    shared |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads_each(num)))}
    processes: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)  # does nothing to one that has ended

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        for rank in range(num):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            processes.append(subprocess.Popen(command, env=os.environ | shared | own, start_new_session=True))
        failed = _first_to_fail(processes)
        if failed is None:
            return 0
        _explain(PrefixStore(FIRST_ATTEMPT, store), failed, processes[failed])
        deadline = time.monotonic() + GRACE
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(0.1)
        return 1
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, old in before.items():
            signal.signal(number, old)


def threads_each(num: int) -> int:
    """Threads for each of `num` processes on this machine: its cores shared out, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(cores // num, 1)


def _first_to_fail(processes: list[subprocess.Popen[bytes]]) -> int | None:
    """Waits until a process fails and gives its number, or until all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        if any(codes):
            return next(rank for rank, code in enumerate(codes) if code)
        if None not in codes:
            return None
        time.sleep(0.1)


def _explain(store: dist.Store, rank: int, process: subprocess.Popen[bytes]) -> None:
    """Tells the others how a rank ended that could not say so itself; says it here if it has not even joined them."""
    from .watch import Sign, describe, sign_key

    code, key = process.returncode, sign_key(rank)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    has_joined = store.check([key])
    sign = Sign(**json.loads(store.get(key))) if has_joined else Sign(process.pid, socket.gethostname())
    if sign.end is None:
        store.set(key, json.dumps(vars(replace(sign, end=f"{describe(rank, sign)} {how}"))))
    if not has_joined and code < 0:
        print(f"gankern: {describe(rank, sign)} {how}", file=sys.stderr)
