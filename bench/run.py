"""`python -m bench.run --op upfirdn2d`: gankern, eager PyTorch, torch.compile and a plain copy, in one process."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import gankern
from bench import harness
from bench.base import against
from bench.ceilings import ceilings
from bench.peer import load

HERE = Path(__file__).parent
RESULTS = HERE / "results"
OPS = sorted(p.stem for p in (HERE / "ops").glob("[!_]*.py"))


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = _parse(argv)
    if args.table:
        lines = table(json.loads(_place(args.table).read_text())).splitlines()
        print("\n".join(line for k, line in enumerate(lines) if k < 2 or line[:2] != "| " or args.case in line))
        return 0
    if args.summary:
        print(summary(json.loads(_place(args.summary).read_text())))
        return 0
    if args.base:
        print(against(args.base, HERE.parent, [arg for arg in argv if arg not in ("--base", args.base)]))
        return 0
    if args.threads:
        torch.set_num_threads(args.threads)
    cases = [c for op in args.op or OPS for c in importlib.import_module(f"bench.ops.{op}").cases(args.device)]
    cases = [c for c in cases if args.case in str(c)]
    if not cases:
        print(f"bench: --case: no case contains '{args.case}'", file=sys.stderr)
        return 2
    report = {**environment(args), "ceilings": ceilings(args.device)}
    try:
        report["figures"] = run(cases, args)
    except RuntimeError as error:  # a failed parity check, or no kernels to measure
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(table(report))
    if args.json:
        path = _place(args.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nwritten: {path}", file=sys.stderr)
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--op", action="append", choices=OPS, help="the op to measure, may be repeated; default all")
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases whose name contains this, e.g. fp32")
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works, not to publish")
    parser.add_argument("--budget", type=float, default=0.6, metavar="S", help="seconds for each call, about")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--flush-l2", action="store_true", help="GPU: empty the L2 cache before every call")
    help_allocator = "CPU: malloc as it is, or keeping freed memory; default both, one after the other"
    parser.add_argument("--allocator", default="both", choices=("default", "keep", "both"), help=help_allocator)
    help_peer = "a checkout with torch_utils/ops, as StyleGAN2-ADA, StyleGAN3 and EG3D have: measured too"
    parser.add_argument("--peer", type=Path, metavar="PATH", help=help_peer)
    help_base = "build that commit too, and compare: which case became slower, which faster"
    parser.add_argument("--base", metavar="COMMIT", help=help_base)
    parser.add_argument("--json", metavar="FILE", help="write every figure; a bare name goes to bench/results/")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the table of such a file")
    parser.add_argument("--summary", metavar="FILE", help="measure nothing: print one line per case of such a file")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available() and not (args.table or args.summary):
        parser.error("--device cuda: there is no GPU that this PyTorch can use")
    return args


def _place(name: str) -> Path:
    path = Path(name)
    return RESULTS / path if path.parent == Path() else path


def run(cases: Sequence[harness.Case], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Checks every case, then measures it in every mode and with every allocator; progress goes to stderr."""
    progress = Progress(len(cases))
    for case in cases:
        progress.show(f"parity  {case}")
        harness.check_parity(case, args.device)
    peer = load(args.peer) if args.peer else None
    allocators = ["default", "keep"] if args.allocator == "both" else [args.allocator]
    if args.device == "cuda":
        allocators = ["caching"]  # PyTorch's own, the only one there
    timer = harness.make_timer(args.device, args.flush_l2)
    budget, rounds = (0.02, 3) if args.quick else (args.budget, 9)
    progress = Progress(len(allocators) * len(cases) * len(harness.MODES))
    figures = []
    for allocator in allocators:
        if allocator == "keep":
            _keep_freed_memory()
        for case in cases:
            for mode in harness.MODES:
                progress.show(f"{case}, {mode}, {allocator} allocator")
                calls = harness.variants(case, mode, args.device, not args.no_compile, peer)
                seconds = harness.measure(calls, timer, budget, rounds)
                figures.append(
                    {
                        "op": case.op,
                        "case": case.name,
                        "shape": list(case.shape),
                        "dtype": harness.dtype_name(case.dtype),
                        "mode": mode,
                        "allocator": allocator,
                        "ms": {name: [round(s * 1000, 6) for s in values] for name, values in seconds.items()},
                        "peak_mb": {n: round(harness.peak_mb(c, args.device), 3) for n, c in calls.items()},
                    }
                )
    progress.show("done")
    return figures


def _keep_freed_memory() -> None:
    """Irreversible, hence the last to be measured."""
    from gankern._host import keep_freed_memory

    if not keep_freed_memory():
        raise RuntimeError("bench: --allocator keep: not possible with this C library; --allocator default is")


class Progress:
    """Which step is running, how long the run has taken, how long it will: one line, or lines where piped."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.start = steps, -1, time.perf_counter()

    def show(self, what: str) -> None:
        self.done += 1
        elapsed = time.perf_counter() - self.start
        left = f", {elapsed / self.done * (self.steps - self.done):.0f} s left" if self.done else ""
        line = f"[{self.done}/{self.steps}] {elapsed:.0f} s{left}  {what}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line[:118]}", end="" if self.done < self.steps else "\n", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def environment(args: argparse.Namespace) -> dict[str, Any]:
    """What a figure depends on besides the code."""
    return {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else _cpu_name(),
        "cpu": _cpu_name(),
        "threads": torch.get_num_threads(),
        "simd": _simd(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gankern": gankern.__version__,
        "commit": commit(),
        "quick": args.quick,
        "flush_l2": args.flush_l2,
        "ms": "[median, lower quartile, upper quartile]",
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _simd() -> str | None:
    """The instruction set that gankern's CPU kernels use."""
    try:
        from gankern._host import build_info
    except ImportError:
        return None
    return build_info()["simd"]


def commit() -> str | None:
    try:
        command = ["git", "-C", str(HERE), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def table(report: dict[str, Any]) -> str:
    """The figures of a results file in Markdown; bench/README.md says what the columns mean."""
    kernels = [
        n for n in ("native", "triton", "peer") if any(f"{n} NCHW" in figure["ms"] for figure in report["figures"])
    ]
    header = ["case", "dtype", "mode", "allocator", "layout", "eager ms", "best eager", "eager", "compile"]
    rows = [header + kernels + ["copy", "of copy"]]
    for figure in report["figures"]:
        best, where = _best_eager(figure, report["figures"])
        for layout in harness.LAYOUTS:
            ms = {name: values[0] for name, values in figure["ms"].items()}
            ours = [ms.get(f"{name} {layout}") for name in kernels]
            eager = min(t for name, t in ms.items() if name in (f"eager {layout}", f"eager-fp32 {layout}"))
            against = [eager, ms.get(f"compile {layout}"), *ours, ms["copy"]]
            case = f"{figure['op']} {figure['case']} {'x'.join(map(str, figure['shape']))}"
            row = [case, figure["dtype"], _short(figure["mode"]), figure["allocator"], layout, f"{best:.3f}", where]
            row += [f"{best / t:.2f}x" if t else "-" for t in against]
            rows.append(
                [*row, f"{100 * ms['copy'] / min(t for name, t in ms.items() if _is_ours(name, layout)):.0f} %"]
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * w for w in widths])
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([*lines, "", _about(report)])


def _about(report: dict[str, Any]) -> str:
    simd = f" ({report['simd']})" if report.get("simd") else ""
    about = f"{report['device']}{simd}, {report['threads']} threads, torch {report['torch']}"
    quick = " QUICK: not to be published." if report["quick"] else ""
    limits = "".join(f", {name} {value:g}" for name, value in report.get("ceilings", {}).items())
    return f"{about}{limits}, gankern {report['gankern']}, commit {report['commit']}. Medians.{quick}"


def summary(report: dict[str, Any]) -> str:
    """One line per case: ours, in its faster layout, against the best eager PyTorch, mode by mode."""
    lines = [
        "| op | case | x | " + " | ".join(_short(mode) for mode in harness.MODES) + " | of copy |",
        "|---" * 7 + "|",
    ]
    cases: dict[tuple, dict[str, dict]] = {}
    for figure in report["figures"]:
        key = (figure["op"], figure["case"], "x".join(map(str, figure["shape"])) + f" {figure['dtype']}")
        cases.setdefault(key, {})[figure["mode"]] = figure
    for key, modes in cases.items():
        ours = {mode: min(ms[0] for name, ms in f["ms"].items() if _is_ours(name)) for mode, f in modes.items()}
        best = {mode: _best_eager(f, report["figures"])[0] for mode, f in modes.items()}
        cells = [f"{best[mode] / ours[mode]:.2f}x" if mode in ours else "-" for mode in harness.MODES]
        limit = modes[harness.MODES[0]]["ms"]["copy"][0] / ours[harness.MODES[0]]
        lines.append(f"| {' | '.join(key)} | {' | '.join(cells)} | {100 * limit:.0f} % |")
    return "\n".join([*lines, "", _about(report)])


def _is_ours(name: str, layout: str = "") -> bool:
    return name.startswith(("native", "triton")) and name.endswith(layout)


def _short(mode: str) -> str:
    return mode.replace("forward+backward", "+backward").replace("+backward+double backward", "+double backward")


def _best_eager(figure: dict[str, Any], figures: Sequence[dict[str, Any]]) -> tuple[float, str]:
    """The fastest eager PyTorch for this case and mode, over layouts and allocators, and which it was."""
    keys = ("op", "case", "shape", "dtype", "mode")
    return min(
        (values[0], f"{name.removeprefix('eager').removeprefix('-').strip()}, {same['allocator']}")
        for same in figures
        if all(same[key] == figure[key] for key in keys)
        for name, values in same["ms"].items()
        if name.startswith("eager")
    )


if __name__ == "__main__":
    sys.exit(main())
