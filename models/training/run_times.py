"""Where the time of a run went: by phase over its course, and by stage where networks grow."""

from collections.abc import Sequence
from typing import NamedTuple

from .plots import Series
from .stats import Summary

PHASES = ("Gmain", "Greg", "Dmain", "Dreg", "ema", "data")  # of an iteration
BETWEEN_TICKS = ("pictures", "snapshot")
MOST_BINS = 60


class StageTime(NamedTuple):
    """A stretch of ticks in the same stage."""

    name: str
    first_kimg: float
    last_kimg: float
    seconds: float  # pictures, snapshots and metrics included
    ms_image: float  # of training alone
    memory_gb: float | None  # the most at the end of a tick


def by_phase(ticks: Sequence[Summary]) -> list[Series]:
    """Milliseconds per real image that each part of training took over kimg, averaged over stretches of the run.

    `other` is what an iteration spends between its phases; it and `metrics ...`, what is spent between ticks beside
    pictures and snapshots, are differences, at least 0.
    """
    timed = [tick for tick in ticks if "Timing/sec_per_tick" in tick]
    size = max(-(-len(timed) // MOST_BINS), 1)
    bins = [timed[k : k + size] for k in range(0, len(timed), size)]
    kimg = [group[-1]["Progress/kimg"]["mean"] for group in bins]
    shares = [_shares(group) for group in bins]
    names = [*PHASES, "other", *BETWEEN_TICKS, "metrics ..."]
    series = [Series(name, kimg, [share[name] for share in shares]) for name in names]
    return [s for s in series if any(s.y)]


def by_stage(ticks: Sequence[Summary]) -> list[StageTime]:
    """The stages of a growing run so far; none where networks do not grow. A tick counts for the stage it ended in."""
    stages: list[StageTime] = []
    before = 0.0
    for tick in ticks:
        values = {name: statistic["mean"] for name, statistic in tick.items()}
        kimg = values["Progress/kimg"]
        if "Progress/resolution" in values and "Timing/sec_per_tick" in values:
            size = round(values["Progress/resolution"])
            name = f"{size}x{size}{' fades in' if values['Progress/alpha'] < 1 else ''}"
            seconds = values["Timing/sec_per_tick"] + values["Timing/maintenance_sec"]
            memory = values.get("Resources/peak_gpu_mem_gb", values.get("Resources/cpu_mem_gb"))
            ms = values["Timing/sec_per_kimg"]  # seconds for 1000 images are milliseconds for one
            if stages and stages[-1].name == name:
                last = stages[-1]
                share = (kimg - before) / (kimg - last.first_kimg)
                memory = max((m for m in (memory, last.memory_gb) if m is not None), default=None)
                ms = last.ms_image * (1 - share) + ms * share
                stages[-1] = StageTime(name, last.first_kimg, kimg, last.seconds + seconds, ms, memory)
            else:
                stages.append(StageTime(name, before, kimg, seconds, ms, memory))
        before = kimg
    return stages


def _shares(ticks: Sequence[Summary]) -> dict[str, float]:
    """Milliseconds per image of each part of some ticks."""
    images = sum(1000 * t["Timing/sec_per_tick"]["mean"] / t["Timing/sec_per_kimg"]["mean"] for t in ticks)

    def ms(name: str, factor: float = 1.0) -> float:
        found = (t[f"Timing/{name}"] for t in ticks if f"Timing/{name}" in t)
        return sum(factor * value["num"] * value["mean"] for value in found) / images

    shares = {name: ms(name) for name in (*PHASES, *BETWEEN_TICKS)}
    shares["other"] = max(ms("sec_per_tick", 1000) - sum(shares[name] for name in PHASES), 0.0)
    between = ms("maintenance_sec", 1000) - sum(shares[name] for name in BETWEEN_TICKS)
    shares["metrics ..."] = max(between, 0.0)
    return shares
