"""The folder of one run: its number, its configuration, its statistics, and where to resume it."""

import contextlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from .checkpoint import latest_snapshot

STATS = "stats.jsonl"
METRICS = "metrics.jsonl"
NOTES = "notes.jsonl"
OPTIONS = "training_options.json"


def new_run_dir(outdir: Path, description: str) -> Path:
    """Makes `outdir/NNNNN-description`, one number above the highest there is."""
    outdir.mkdir(parents=True, exist_ok=True)
    numbers = [int(m[1]) for p in outdir.iterdir() if (m := re.match(r"(\d+)-", p.name))]
    run_dir = outdir / f"{max(numbers, default=-1) + 1:05d}-{description}"
    run_dir.mkdir()
    return run_dir


def find_snapshot(resume: str, outdir: Path) -> Path:
    """The snapshot that --resume names.

    Args:
        resume: `latest` (the newest run below `outdir` that has one), a run folder, or a snapshot file.
        outdir: Folder of the runs.

    Raises:
        FileNotFoundError: There is none.
    """
    if resume == "latest":
        for run_dir in sorted(outdir.glob("[0-9]*-*"), reverse=True):
            found = latest_snapshot(run_dir)
            if found:
                return found
        raise FileNotFoundError(f"resume: no run with a snapshot in {outdir}/")
    path = Path(resume)
    if path.is_dir():
        found = latest_snapshot(path)
        if not found:
            raise FileNotFoundError(f"resume: no snapshot in {path}")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"resume: expected `latest`, a run folder or a snapshot file, got {resume}")
    return path


def write_config(run_dir: Path, config: dict[str, Any]) -> None:
    """Writes the run's configuration as training_options.json."""
    (run_dir / OPTIONS).write_text(json.dumps(config, indent=2) + "\n")


def append_stats(run_dir: Path, stats: dict[str, dict[str, float]]) -> None:
    """Adds one tick, a line of JSON: {name: {"num", "mean", "std"}}."""
    with (run_dir / STATS).open("a") as file:
        file.write(json.dumps(stats) + "\n")


def read_stats(run_dir: Path) -> list[dict[str, dict[str, float]]]:
    """The run's ticks, oldest first."""
    path = run_dir / STATS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_metrics(run_dir: Path, cur_nimg: int, values: dict[str, float]) -> None:
    """Adds one measurement, a line of JSON: {"kimg", name: value}."""
    with (run_dir / METRICS).open("a") as file:
        file.write(json.dumps({"kimg": cur_nimg / 1000, **values}) + "\n")


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """The run's measurements, oldest first."""
    path = run_dir / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append_note(run_dir: Path, cur_nimg: int, text: str) -> None:
    """Adds something that happened to the run and that its reader should know, a line of JSON: {"kimg", "note"}."""
    with (run_dir / NOTES).open("a") as file:
        file.write(json.dumps({"kimg": cur_nimg / 1000, "note": text}) + "\n")


def read_notes(run_dir: Path) -> list[dict[str, Any]]:
    """The run's notes, oldest first."""
    path, notes = run_dir / NOTES, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # the line that was being written when the run was killed
            notes.append(json.loads(line))
    return notes


def continue_run(snapshot: Path, cur_nimg: int, outdir: Path, description: str) -> Path:
    """The folder in which a run goes on: its own, or from an older snapshot a new one with the history up to there."""
    run_dir = snapshot.parent
    if latest_snapshot(run_dir) != snapshot or not (run_dir / OPTIONS).exists():
        old, run_dir = run_dir, new_run_dir(outdir, description)
        kept = [old / STATS, old / METRICS, old / NOTES, old / "reals.png", *sorted(old.glob("fakes*.png"))]
        for path in kept:
            if path.exists() and (path.name < f"fakes{cur_nimg // 1000:06d}.png" or not path.name.startswith("fakes")):
                shutil.copy2(path, run_dir)
    forget_after(run_dir, cur_nimg)
    return run_dir


def forget_after(run_dir: Path, cur_nimg: int) -> None:
    """Drops the ticks and measurements that the run wrote after the snapshot it is resumed from."""
    for path in (run_dir / STATS, run_dir / METRICS):
        if path.exists():
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(line for line in lines if _kimg(line) * 1000 <= cur_nimg))


def _kimg(line: str) -> float:
    try:
        values = json.loads(line)
        return float(values["kimg"] if "kimg" in values else values["Progress/kimg"]["mean"])
    except ValueError:  # the line that was being written when the run was killed
        return float("inf")
