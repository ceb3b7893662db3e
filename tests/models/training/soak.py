"""Trains tiny models again and again in one process, and tells whether it grows: memory, open files, processes.

python tests/models/training/soak.py --minutes 10
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zygote import COMMON, RUNS, shrink_presets

WARM_UP = 0.3  # share of the time after which the slope is taken


def measure(minutes: float) -> dict[str, Any]:
    """Runs for so long; returns counts, and the slope of the resident memory by least squares."""
    from gankern.models import cli

    shrink_presets()
    points, start = [], time.monotonic()
    while time.monotonic() - start < minutes * 60:
        for options in RUNS.values():
            with tempfile.TemporaryDirectory() as folder, silence():
                status = cli.main(["train", *options, *COMMON, "--outdir", folder])
            if status != 0:
                raise RuntimeError(f"{options} ended with {status}")
        gc.collect()
        points.append((time.monotonic() - start, resident_mb(), len(os.listdir("/proc/self/fd"))))
    late = [point for point in points if point[0] > WARM_UP * minutes * 60]
    hours, memory = [t / 3600 for t, _, _ in late], [mb for _, mb, _ in late]
    trainings = len(points) * len(RUNS)
    slope = statistics.linear_regression(hours, memory).slope
    return {
        "minutes": minutes,
        "trainings": trainings,
        "mb_first": round(points[0][1], 1),
        "mb_after_warm_up": round(memory[0], 1),
        "mb_last": round(memory[-1], 1),
        "mb_per_hour": round(slope, 1),
        "kb_per_training": round(slope * 1000 * (hours[-1] - hours[0]) / ((len(late) - 1) * len(RUNS)), 2),
        "open_files": [points[0][2], points[-1][2]],
        "processes_left": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
    }


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    sys.exit(print(json.dumps(measure(parser.parse_args().minutes), indent=2)))
