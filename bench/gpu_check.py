"""`make gpu-check`: everything that only a GPU can show, in one command: build, tests, sanitizers, figures.

Steps run one after the other, each with a limit, within one budget of time. A step that fails or runs out of time does
not stop the others. All that was found is in one JSON file; a table is printed last, and what failed first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "build" / "gpu-check"
SMI = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,power.limit"
TAIL = 4000  # characters of a failed step's log that the JSON keeps
SHORTEST = 10.0  # seconds: with less left a step is not begun
PYTHON = sys.executable
SANITIZER = "compute-sanitizer --error-exitcode 9 --tool"


class Step(NamedTuple):
    """One command of the check."""

    name: str
    command: str
    limit: float  # seconds
    figures: str = ""  # the JSON that it writes into the folder of logs


def steps(logs: Path, peer: Path | None) -> list[Step]:
    """The check: what must hold before figures mean anything comes first."""
    kernels = f"{PYTHON} tests/gpu/every_kernel.py"
    published = f" --peer {shlex.quote(str(peer))}" if peer else ""
    ops = f"{PYTHON} -m bench.run --device cuda --no-compile --budget 0.04{published} --json"
    iterations = f"{PYTHON} -m bench.models.throughput --device cuda --json"
    return [
        Step("build", f"{PYTHON} -m pip install -q --no-index --no-deps --no-build-isolation -e .", 180),
        Step("kernels", f"{kernels} --backend native && {kernels} --backend triton", 90),
        Step("tests", f"{PYTHON} -m pytest -q -n 8 --dist worksteal -k cuda tests/ops", 200),
        Step("memcheck", f"{SANITIZER} memcheck {kernels}", 60),
        Step("racecheck", f"{SANITIZER} racecheck {kernels}", 60),
        Step("ops", f"{ops} {logs}/ops.json", 150, "ops.json"),
        Step("iterations", f"{iterations} {logs}/iterations.json", 150, "iterations.json"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", _architecture())
    report: dict[str, Any] = {"machine": machine(), "steps": []}
    end = time.monotonic() + args.budget
    for step in steps(LOGS, args.peer):
        if args.only and step.name not in args.only:
            continue
        report["steps"].append(run(step, end - time.monotonic()))
        if step.figures and (LOGS / step.figures).exists():
            report[step.name] = json.loads((LOGS / step.figures).read_text())
        _write(args.out, report)  # what there is survives whatever ends this process
    print(table(report))
    failed = [step for step in report["steps"] if step["result"] != "ok"]
    if failed:
        print(f"\nfirst: {failed[0]['name']}, {failed[0]['result']}; the end of its log:\n{failed[0]['tail'][-1500:]}")
    return 1 if failed else 0


def run(step: Step, left: float) -> dict[str, Any]:
    """Runs a step for at most its limit, or what is left of the budget."""
    found: dict[str, Any] = {"name": step.name, "command": step.command, "seconds": 0.0, "tail": ""}
    limit = min(step.limit, left)
    if limit < SHORTEST:
        return {**found, "result": "not run: the budget of time is spent"}
    print(f"{step.name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    start = time.monotonic()
    log = LOGS / f"{step.name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", step.command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
            status = None
    text = log.read_text(errors="replace")
    result = "out of time" if status is None else "ok" if status == 0 else f"failed with status {status}"
    return {
        **found,
        "seconds": round(time.monotonic() - start, 1),
        "result": result,
        "said": said(step.name, text),
        "tail": "" if result == "ok" else text[-TAIL:],
    }


def said(name: str, text: str) -> str:
    """What a step says of itself in one line: pytest's counts, the sanitizer's summary, how many cases ran."""
    sanitizer = r"(?:ERROR|RACECHECK) SUMMARY.*"
    patterns = {"tests": r"\d+ (?:passed|failed).*", "memcheck": sanitizer, "racecheck": sanitizer}
    return "; ".join(re.findall(patterns.get(name, r"\d+ cases ran"), text))


def machine() -> dict[str, Any]:
    """The GPU as it was found, clocks included, and the versions of what runs on it."""
    import torch

    import bench.run
    from bench.ceilings import ceilings

    if not torch.cuda.is_available():
        raise SystemExit("gpu-check: there is no GPU that this PyTorch can use")
    query = ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader"]
    values = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].split(", ")
    nvcc = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False).stdout
    return {
        **dict(zip(SMI.split(","), values, strict=True)),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nvcc": "".join(re.findall(r"release (\S+),", nvcc)),
        "python": sys.version.split()[0],
        "commit": bench.run.commit(),
        "ceilings": ceilings("cuda"),
    }


def table(report: dict[str, Any]) -> str:
    """The machine, and a line per step."""
    about = report["machine"]
    limits = ", ".join(f"{name} {value:g}" for name, value in about["ceilings"].items())
    lines = [f"{about['name']}, driver {about['driver_version']}, torch {about['torch']}; {limits}", ""]
    lines += ["| step | result | seconds | |", "|---" * 4 + "|"]
    lines += [f"| {s['name']} | {s['result']} | {s['seconds']:g} | {s.get('said', '')} |" for s in report["steps"]]
    return "\n".join(lines)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the JSON")
    parser.add_argument("--budget", type=float, default=530, metavar="S", help="seconds for everything [530]")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step alone; may be repeated")
    parser.add_argument("--peer", type=Path, help="a checkout of a published project, whose ops are measured too")
    return parser.parse_args(argv)


def _architecture() -> str:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("gpu-check: there is no GPU that this PyTorch can use")
    return ".".join(map(str, torch.cuda.get_device_capability()))


def _write(folder: Path, report: dict[str, Any]) -> None:
    name = re.sub(r"[^a-z0-9]+", "-", report["machine"]["name"].lower()).strip("-")
    (folder / f"gpu-check-{name}.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
