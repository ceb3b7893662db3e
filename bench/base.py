"""Against another commit: it is built beside this one, and both measure the same cases in turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TURNS = 2
SLOWER = 1.1  # differences below are the machine's


def against(commit: str, root: Path, argv: Sequence[str]) -> str:
    """A table of every case, in this checkout and in that of a commit.

    Args:
        commit: Anything that git takes for one.
        root: Of this checkout, with its kernels built.
        argv: Arguments of `python -m bench.run`, for both.

    Raises:
        RuntimeError: The commit cannot be checked out, built, or measured.
    """
    sha = _run(["git", "-C", str(root), "rev-parse", "--short=12", f"{commit}^{{commit}}"], root)
    base = root / "build" / f"base-{sha}"
    if not base.is_dir():
        _run(["git", "-C", str(root), "worktree", "add", "--detach", str(base), sha], root)
    print(f"building {commit} ({sha}) in {base}", file=sys.stderr, flush=True)
    _run([sys.executable, "setup.py", "build_ext", "--inplace"], base)
    figures: dict[str, dict[tuple, list[float]]] = {"base": {}, "now": {}}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(TURNS):
            for who, place in (("base", base), ("now", root)):
                print(f"turn {turn + 1} of {TURNS}: {who}", file=sys.stderr, flush=True)
                result = Path(folder) / f"{who}.json"
                options = ["--no-compile", *argv, "--json", str(result)]
                _run([sys.executable, "-m", "bench.run", *options], place, quiet=False)
                for key, ms in _ours(json.loads(result.read_text())).items():
                    figures[who].setdefault(key, []).append(ms)
    _run(["git", "-C", str(root), "worktree", "remove", "--force", str(base)], root)
    return _table(figures)


def _ours(report: dict[str, Any]) -> dict[tuple, float]:
    """Milliseconds of the fastest kernel of each case, mode and allocator."""
    found = {}
    for figure in report["figures"]:
        shape = "x".join(map(str, figure["shape"]))
        key = (f"{figure['op']} {figure['case']} {shape} {figure['dtype']}", figure["mode"], figure["allocator"])
        found[key] = min(ms[0] for name, ms in figure["ms"].items() if name.startswith(("native", "triton")))
    return found


def _table(figures: dict[str, dict[tuple, list[float]]]) -> str:
    lines = ["| case | mode | allocator | base ms | now ms | base / now | |", "|---" * 7 + "|"]
    for key, times in figures["now"].items():
        if key not in figures["base"]:
            lines.append(f"| {' | '.join(key)} | - | {min(times):.3f} | - | new |")
            continue
        before, now = min(figures["base"][key]), min(times)
        verdict = "slower" if now > before * SLOWER else "faster" if before > now * SLOWER else ""
        lines.append(f"| {' | '.join(key)} | {before:.3f} | {now:.3f} | {before / now:.2f}x | {verdict} |")
    return "\n".join(lines)


def _run(command: Sequence[str], folder: Path, quiet: bool = True) -> str:
    """Runs a command in a folder whose own packages are imported, and gives what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if quiet else None,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"bench: {' '.join(command)} failed in {folder}:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout.strip()
