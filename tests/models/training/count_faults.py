"""Interrupts the real command hundreds of times and counts what was lost: `make faults`.

python tests/models/training/count_faults.py --kills 500 --stops 200     writes bench/results/faults.json
python tests/models/training/count_faults.py --table                     prints it as in docs/faults.md
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "faults.json"
KINDS = {"kill": "SIGKILL", "stop": "SIGTERM, SIGINT, SIGUSR1 and SIGHUP in turn"}
COLUMNS = {
    "interruptions": "interruptions",
    "while_writing": "while a snapshot was written",
    "runs": "runs compared",
    "unreadable": "unreadable snapshots",
    "most_images_lost": "most images lost (a snapshot every {interval})",
    "different": "runs that differ in a bit",
    "wrong_ends": "tracebacks or wrong statuses",
}


def count(kills: int, stops: int, seed: int) -> dict[str, Any]:
    """The tallies of each kind of interruption, by kind and run."""
    from interruptions import INTERVAL, POLITE, Tally, interrupt, run_whole
    from zygote import RUNS, Zygote

    zygote, rng = Zygote(), random.Random(seed)
    signals = {"kill": [signal.SIGKILL] * kills, "stop": [POLITE[k % len(POLITE)] for k in range(stops)]}
    found: dict[str, Any] = {"seed": seed, "interval": INTERVAL, "machine": platform.machine(), "cores": os.cpu_count()}
    for kind, numbers in signals.items():
        found[kind] = {}
        for k, name in enumerate(RUNS):
            share = numbers[k :: len(RUNS)]
            with tempfile.TemporaryDirectory() as folder:
                whole = run_whole(zygote, name, Path(folder) / "whole")
                tally = interrupt(zygote, name, Path(folder) / "parts", whole, share, rng) if share else Tally()
            found[kind][name] = asdict(tally)
            print(f"{kind} {name}: {tally}", file=sys.stderr, flush=True)
    zygote.close()
    return found


def table(found: dict[str, Any]) -> str:
    """The tallies in Markdown, a row for each kind and run."""
    titles = [title.format(interval=found["interval"]) for title in COLUMNS.values()]
    lines = [f"| signal | run | {' | '.join(titles)} |", "|---|---|" + "--:|" * len(titles)]
    for kind, signals in KINDS.items():
        for name, tally in found[kind].items():
            tally = tally | {"different": max(tally["different_curves"], tally["different_snapshots"])}
            lines.append(f"| {signals} | {name} | {' | '.join(str(tally[column]) for column in COLUMNS)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("GANKERN_KILLS", "500")))
    parser.add_argument("--stops", type=int, default=int(os.environ.get("GANKERN_STOPS", "200")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not args.table:
        args.json.write_text(json.dumps(count(args.kills, args.stops, args.seed), indent=2) + "\n")
    print(table(json.loads(args.json.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
