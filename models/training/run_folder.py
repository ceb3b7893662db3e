"""The folder of one run: its number, its configuration, its statistics, and where to resume it."""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..ranks import on_first_rank
from .atomic import write_text_atomically
from .checkpoint import remove_litter, set_aside, snapshots

STATS = "stats.jsonl"
METRICS = "metrics.jsonl"
NOTES = "notes.jsonl"
OPTIONS = "training_options.json"

unwritten: dict[Path, str] = {}  # lines that the disk did not take, by file; they go before the next


def new_run_dir(outdir: Path, description: str) -> Path:
    """Makes `outdir/NNNNN-description`, one number above the highest there is."""
    if outdir.exists() and not outdir.is_dir():
        raise NotADirectoryError(f"outdir: expected a folder for the runs, got the file {outdir}")
    outdir.mkdir(parents=True, exist_ok=True)
    numbers = [int(m[1]) for p in outdir.iterdir() if (m := re.match(r"(\d+)-", p.name))]
    run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{description}"
    run_dir.mkdir()
    return run_dir


def find_snapshots(resume: str, outdir: Path) -> list[Path]:
    """The snapshots that --resume may mean, newest first: of a run all, so that a damaged one can be passed over.

    Args:
        resume: `latest` (the newest run below `outdir` that has a snapshot), a run folder, or a snapshot file.
        outdir: Folder of the runs.

    Raises:
        FileNotFoundError: There is none.
    """
    path = Path(resume)
    if resume == "latest":
        for run_dir in sorted(outdir.glob("[0-9]*-*"), reverse=True):
            if found := snapshots(run_dir):
                return found
        raise FileNotFoundError(f"resume: no run with a snapshot in {outdir}/")
    if path.is_dir():
        if found := snapshots(path):
            return found
        raise FileNotFoundError(f"resume: no snapshot in {path}")
    if not path.is_file():
        raise FileNotFoundError(f"resume: expected `latest`, a run folder or a snapshot file, got {resume}")
    return [path]


@on_first_rank
def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes the run's configuration as training_options.json."""
    write_text_atomically(run_dir / OPTIONS, json.dumps(config, indent=2) + "\n")


@on_first_rank
def append_stats(run_dir: Path, stats: dict[str, dict[str, float]]) -> None:
    """Adds one tick, a line of JSON: {name: {"num", "mean", "std"}}."""
    _append(run_dir / STATS, stats)


def read_stats(run_dir: Path) -> list[dict[str, dict[str, float]]]:
    """The run's ticks, oldest first."""
    path = run_dir / STATS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@on_first_rank
def append_metrics(run_dir: Path, cur_nimg: int, values: dict[str, float]) -> None:
    """Adds one measurement, a line of JSON: {"kimg", name: value}."""
    _append(run_dir / METRICS, {"kimg": cur_nimg / 1000, **values})


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The run's measurements, oldest first."""
    path = run_dir / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_note(run_dir: Path, cur_nimg: int, text: str) -> None:
    """Adds something that happened to the run and that its reader should know, a line of JSON: {"kimg", "note"}."""
    _append(run_dir / NOTES, {"kimg": cur_nimg / 1000, "note": text})


def read_notes(run_dir: Path) -> list[dict[str, Any]]:
    """The run's notes, oldest first."""
    path, notes = run_dir / NOTES, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # the line that was being written when the run was killed
            notes.append(json.loads(line))
    return notes


def continue_run(snapshot: Path, cur_nimg: int, outdir: Path, description: str, damaged: Sequence[Path] = ()) -> Path:
    """The folder in which a run goes on: its own, or from an older snapshot a new one with the history up to there.

    Args:
        snapshot: Where the run goes on from.
        cur_nimg: Images that it had seen.
        outdir: Folder of the runs.
        description: For the name of a new folder.
        damaged: Newer snapshots of the same run, not to be used again.
    """
    run_dir = snapshot.parent
    whole = [path for path in snapshots(run_dir) if path not in damaged]
    if whole[:1] != [snapshot] or not (run_dir / OPTIONS).exists():
        old, run_dir = run_dir, new_run_dir(outdir, description)
        kept = [old / STATS, old / METRICS, old / NOTES, old / "reals.png", *sorted(old.glob("fakes*.png"))]
        for path in kept:
            if path.exists() and (path.name < f"fakes{cur_nimg // 1000:06d}.png" or not path.name.startswith("fakes")):
                shutil.copy2(path, run_dir)
    return run_dir


def clean_up(run_dir: Path, cur_nimg: int, damaged: Sequence[Path] = ()) -> None:
    """Makes the folder what it was when the run had seen `cur_nimg` images; this process must hold its lock."""
    for path in damaged:
        if path.parent == run_dir:
            set_aside(path)
    remove_litter(run_dir)
    forget_after(run_dir, cur_nimg)


def restore(run_dir: Path, config: dict[str, Any]) -> None:
    """Makes the folder of a run that goes on again, where somebody has deleted it."""
    if not run_dir.is_dir():
        run_dir.mkdir(parents=True)
        write_config(run_dir, config)
        print(f"warning: {run_dir} was gone; made again, without what it held", file=sys.stderr)


def forget_after(run_dir: Path, cur_nimg: int) -> None:
    """Drops the ticks and measurements that the run wrote after the snapshot it is resumed from."""
    for path in (run_dir / STATS, run_dir / METRICS):
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        lines += unwritten.pop(path, "").splitlines(keepends=True)
        if lines:
            write_text_atomically(path, "".join(line for line in lines if _kimg(line) * 1000 <= cur_nimg))


def _append(path: Path, values: dict[str, Any]) -> None:
    """Adds a line of JSON, whole or not at all; what the disk does not take now, it is offered again with the next."""
    lines = unwritten[path] = unwritten.get(path, "") + json.dumps(values) + "\n"
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as file:
            file.write(lines)
    except OSError:
        if path.exists():
            os.truncate(path, before)
        raise
    del unwritten[path]


def _kimg(line: str) -> float:
    try:
        values = json.loads(line)
        return float(values["kimg"] if "kimg" in values else values["Progress/kimg"]["mean"])
    except ValueError:  # the line that was being written when the run was killed
        return float("inf")
