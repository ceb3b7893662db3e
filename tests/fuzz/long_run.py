"""Fuzzes every op for long, each in a process of its own, so that a crash ends one op and is told with its call.

    python tests/fuzz/long_run.py --number 20000 --seed 7 --save bench/results/fuzz-cpu.json

The calls of an op are drawn in rounds, each with a seed of its own. What fails is printed, smallest call first found by
hypothesis, and added to regressions.jsonl, which every run of the tests repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "bench/results/fuzz-cpu.json"
KEPT = HERE / "regressions.jsonl"
ROUND = 1000  # calls of one process
SECONDS = 3600  # after which it hangs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=int(os.environ.get("GANKERN_FUZZ", "20000")), help="of all ops")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31))
    parser.add_argument("--ops", nargs="*", help="only these")
    parser.add_argument("--save", type=Path, help="adds the counts to this JSON file")
    parser.add_argument("--table", type=Path, nargs="?", const=RESULTS, help="prints what such a file holds")
    options = parser.parse_args()
    if options.table is not None:
        print(table(options.table))
        return
    sys.path.insert(0, str(HERE))
    from strategies import OPS

    ops = options.ops or list(OPS)
    print(f"{options.number} calls of {len(ops)} ops, seed {options.seed}", flush=True)
    failed = 0
    for first in range(0, options.number // len(ops) + 1, ROUND):
        number = min(ROUND, options.number // len(ops) + 1 - first)
        for op in ops:
            counts, failures = one_round(op, number, options.seed + first)
            failed += len(failures)
            for failure in failures:
                keep(failure)
            if options.save is not None:
                save(options.save, op, counts, len(failures))
            print(f"{op}: {dict(counts)}", flush=True)
    sys.exit(f"{failed} calls failed; they are in {KEPT}" if failed else 0)


def one_round(op: str, number: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How many calls came out how, and the failures: what pytest says, or how the process died and with which call."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"GANKERN_FUZZ": str(number), "GANKERN_FUZZ_SEED": str(seed), "GANKERN_FUZZ_LOG": folder}
        command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), "-m", "pytest", "-q", "--tb=short"]
        command += ["-p", "no:cacheprovider", str(HERE / "test_fuzz.py"), "-k", f"[{op}-"]
        try:
            process = subprocess.run(
                command, env={**os.environ, **settings}, capture_output=True, text=True, timeout=SECONDS
            )
            said, status = process.stdout + process.stderr, process.returncode
        except subprocess.TimeoutExpired:
            said, status = f"no answer for {SECONDS} s", -1
        counts: Counter[str] = Counter()
        for path in Path(folder).glob("*.json"):
            counts.update(json.loads(path.read_text()))
        found = [path.read_text() for ending in ("failed", "running") for path in Path(folder).glob(f"*.{ending}")]
    if status in (0, 5):
        return counts, []
    print(f"{op}, seed {seed}, status {status}:\n{said[-3000:]}\n{found}", flush=True)
    return counts, found[:1] or [f"unknown: {said[-300:]}"]


def keep(failure: str) -> None:
    if failure.startswith("{") and failure not in KEPT.read_text():
        with KEPT.open("a") as file:
            file.write(failure + "\n")


def save(path: Path, op: str, counts: Counter[str], failures: int) -> None:
    import torch

    record = json.loads(path.read_text()) if path.exists() else {"ops": {}}
    record |= {"what": "calls of each op against the eager reference", "python": platform.python_version()}
    record |= {"torch": torch.__version__, "processor": torch.backends.cpu.get_cpu_capability()}
    total = Counter(record["ops"].get(op, {}))
    total.update({**counts, "failed": failures})
    record["ops"][op] = dict(total)
    record["calls"] = sum(n for of in record["ops"].values() for n in of.values())
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


def table(path: Path) -> str:
    """Markdown: one row per op."""
    record = json.loads(path.read_text())
    outcomes = ("equal", "equal to order 1", "equal to order 2", "refused", "failed")
    names = ("forward", "to first order", "to second order", "refused alike", "failed")
    rows = [f"| op | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for op, counts in {**record["ops"], "all": Counter()}.items():
        if op == "all":
            for of in record["ops"].values():
                counts.update(of)
        rows.append(f"| {op} | {' | '.join(str(counts.get(outcome, 0)) for outcome in outcomes)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
