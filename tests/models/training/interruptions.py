"""Interrupts runs of the real command at random moments, goes on, and compares with one that nobody interrupted."""

from __future__ import annotations

import json
import random
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zygote import COMMON, RUNS, TICK, Child, Ended, Zygote

from gankern.models.training.checkpoint import checksum, latest_snapshot, load_snapshot

WHILE_WRITING = 0.4  # share of the kills that wait until a snapshot is being written
POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


@dataclass
class Tally:
    """What was seen of a number of interruptions; everything below `while_writing` should be 0, or one interval."""

    interruptions: int = 0
    runs: int = 0  # that they interrupted, each compared with the uninterrupted one
    while_writing: int = 0  # of the interruptions, between the begin of a snapshot and its end
    unreadable: int = 0  # newest snapshots that could not be read
    most_images_lost: int = 0
    wrong_ends: int = 0  # after a signal that asks to stop: a status that is not 0, or a traceback
    different_curves: int = 0
    different_snapshots: int = 0

    def __add__(self, other: Tally) -> Tally:
        most = max(self.most_images_lost, other.most_images_lost)
        sums = {name: value + getattr(other, name) for name, value in asdict(self).items()}
        return Tally(**sums | {"most_images_lost": most})


class Whole(NamedTuple):
    """The run that nobody interrupted."""

    curve: list[dict[str, Any]]
    snapshot: str
    seconds: float


def curve(run_dir: Path) -> list[dict[str, Any]]:
    """stats.jsonl without what a clock or the system says."""
    lines = (run_dir / "stats.jsonl").read_text().splitlines()
    told = ("Timing", "Resources")
    return [{name: value for name, value in json.loads(line).items() if not name.startswith(told)} for line in lines]


def last_snapshot(run_dir: Path) -> str:
    """Checksum of the newest snapshot's state: networks, averages, optimisers, random states, position."""
    path = latest_snapshot(run_dir)
    assert path
    return checksum(load_snapshot(path)[0])


def run_whole(zygote: Zygote, name: str, folder: Path) -> Whole:
    """Runs one of `zygote.RUNS` from start to end."""
    start = time.perf_counter()
    ended = zygote.start(["train", *RUNS[name], *COMMON, "--outdir", str(folder)], folder.with_suffix(".log")).wait()
    assert ended.status == 0, ended.text
    (run_dir,) = folder.iterdir()
    return Whole(curve(run_dir), last_snapshot(run_dir), time.perf_counter() - start)


def interrupt(
    zygote: Zygote, name: str, folder: Path, whole: Whole, signals: Sequence[int], rng: random.Random
) -> Tally:
    """Runs one of `zygote.RUNS` until all signals were sent, resuming after each, and as often as that takes.

    Args:
        zygote: Starts the processes.
        name: Of the run.
        folder: Where to put the runs.
        whole: What each must come to.
        signals: To send, one to each process.
        rng: Chooses the moments.
    """
    tally, pending = Tally(), list(signals)
    while pending:
        outdir = folder / f"{tally.runs:03d}"
        outdir.mkdir(parents=True)
        while True:
            resumed = ["--resume", "latest", "--device", "cpu"]
            options = resumed if _newest(outdir) else [*RUNS[name], *COMMON]
            child = zygote.start(["train", *options, "--outdir", str(outdir)], outdir.with_suffix(".log"))
            number = pending[-1] if pending else None
            if number is not None and _strike(child, number, outdir, whole.seconds, rng, tally):
                pending.pop()
                tally.interruptions += 1
                _look(child.wait(), number, outdir, tally)
            ended = child.wait()
            if "report.html" in ended.text:
                break
            assert number is not None, ended.text  # only what was interrupted is not over
        run_dir = max(outdir.iterdir())
        tally.runs += 1
        tally.different_curves += curve(run_dir) != whole.curve
        tally.different_snapshots += last_snapshot(run_dir) != whole.snapshot
    return tally


def _strike(child: Child, number: int, outdir: Path, seconds: float, rng: random.Random, tally: Tally) -> bool:
    """Waits for a random moment and sends the signal; False where the process was over before it."""
    asks = number != signal.SIGKILL
    if asks:  # before the first line it has nothing to save, and dies as any program does
        while child.running() and "data " not in child.text():
            time.sleep(0.001)
    writing = not asks and rng.random() < WHILE_WRITING
    moment, delay = rng.uniform(0, 0.9 * seconds), rng.uniform(0, 0.004)
    start = time.perf_counter()
    while child.running() and (time.perf_counter() - start < moment or (writing and not _is_writing(outdir))):
        time.sleep(0.0005)
    if writing:
        time.sleep(delay)
    if not child.running():
        return False
    child.signal(number)
    tally.while_writing += writing
    return True


def _is_writing(outdir: Path) -> bool:
    return any(outdir.glob("*/.network-snapshot-*.tmp"))


def _newest(outdir: Path) -> Path | None:
    return next(
        (found for folder in sorted(outdir.iterdir(), reverse=True) if (found := latest_snapshot(folder))), None
    )


def _look(ended: Ended, number: int, outdir: Path, tally: Tally) -> None:
    """Examines what an interrupted process has left."""
    path = _newest(outdir)
    nimg = 0
    if path is not None:
        try:
            nimg = load_snapshot(path)[0]["cur_nimg"]
        except ValueError:
            tally.unreadable += 1
    if number == signal.SIGKILL:
        newest = max(outdir.iterdir(), default=None)
        ticks = (
            (newest / "stats.jsonl").read_text().split("\n")[:-1]
            if newest and (newest / "stats.jsonl").exists()
            else []
        )
        trained = round(json.loads(ticks[-1])["Progress/kimg"]["mean"] * 1000) if ticks else 0
        tally.most_images_lost = max(tally.most_images_lost, trained - nimg)
        return
    tally.wrong_ends += ended.status != 0 or "Traceback" in ended.text
    stopped = re.search(r"stopped at ([\d.]+) kimg; to continue: gankern train --resume", ended.text)
    if stopped:
        tally.most_images_lost = max(tally.most_images_lost, abs(round(float(stopped[1]) * 1000) - nimg))
    elif "report.html" not in ended.text:
        tally.wrong_ends += 1


INTERVAL = round(TICK * 1000)  # images between two snapshots
