"""One training iteration of a model, phase by phase: plain PyTorch against gankern, and where the time goes.

Plain PyTorch is the same networks with GANKERN_BACKEND=eager, in both memory layouts; freed memory is kept
(`gankern._host.keep_freed_memory`) for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankern
from bench.models import loop
from bench.run import environment
from gankern.models.training.options import TrainingOptions

RESULTS = Path(__file__).parents[1] / "results"
# op -> what it is for; the first name that the op's name starts with counts.
CATEGORIES = {
    "convolution": ("conv", "styled_conv2d", "winograd", "bmm", "baddbmm"),
    "resampling": ("upfirdn2d", "upsample_add", "constant_pad"),
    "linear layers": ("mm", "addmm"),
    "optimiser": ("_fused_adam", "_foreach", "nan_to_num"),
    "random numbers": ("randn", "normal_", "rand"),
}
ELEMENTWISE = "modulation, noise, bias, activation, sums"


@dataclass(frozen=True)
class Variant:
    """One way to compute the same iteration."""

    who: str  # 'eager' or 'gankern', and what else tells it from others
    precision: str  # 'fp32' or 'bf16'
    layout: str  # 'NCHW' or 'channels_last'

    def __str__(self) -> str:
        return f"{self.who} {self.precision} {self.layout}"

    def backend(self) -> AbstractContextManager[Any]:
        """Inside it, the networks compute as this variant does."""
        return gankern.use_backend("eager") if self.who.startswith("eager") else nullcontext()


def every(*who: str) -> list[Variant]:
    """All variants of some, in both precisions and layouts."""
    layouts = ("NCHW", "channels_last")
    return [Variant(name, precision, layout) for precision in ("fp32", "bf16") for name in who for layout in layouts]


VARIANTS = every("eager", "gankern")


class Run(Protocol):
    """The networks and optimisers of one variant, the same numbers in each."""

    variant: Variant

    def phase(self, name: str) -> None:
        """One phase of an iteration, the optimiser's step included."""

    def losses(self) -> dict[str, float]:
        """The losses of all phases before the first step."""


class Training(NamedTuple):
    """Networks, and how the training loop trains them."""

    G: torch.nn.Module
    D: torch.nn.Module
    options: TrainingOptions


@dataclass(frozen=True)
class Iteration:
    """What an iteration of a model consists of."""

    command: str  # python -m ...
    about: str
    start: Callable[[Variant, int, int], Run]  # variant, resolution, batch
    intervals: dict[str, int]  # phase -> iterations between two of it
    variants: Sequence[Variant]
    resolutions: Sequence[int]
    training: Callable[[Variant, int, int], Training]  # variant, resolution, batch
    computing: Callable[[Variant], AbstractContextManager[Any]] = Variant.backend  # inside it, as a variant does


class Clock(TorchDispatchMode):
    """Seconds by category of all ops that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self.seconds[category(func, args)] += time.perf_counter() - start
        return result


def category(func: Any, args: Sequence[Any]) -> str:
    name = func._schema.name.split("::")[1]
    if name.startswith("convolution"):  # the last list but one of both ops is followed by the groups
        groups = args[8] if name == "convolution" else args[9]
        return "resampling" if groups > 1 else "convolution"
    for what, starts in CATEGORIES.items():
        if name.startswith(starts):
            return what
    return ELEMENTWISE


def measure(
    iteration: Iteration, variants: Sequence[Variant], resolution: int, batch: int, rounds: int, memory: bool
) -> list[dict[str, Any]]:
    """Per variant: its losses, milliseconds per phase (median over rounds) and per category, and its peak memory."""
    runs = [iteration.start(variant, resolution, batch) for variant in variants]
    losses = [run.losses() for run in runs]
    seconds: list[dict[str, list[float]]] = [defaultdict(list) for _ in runs]
    for turn in range(rounds + 1):  # the first warms up
        for name in iteration.intervals:
            for run, own in zip(runs, seconds, strict=True):
                start = time.perf_counter()
                run.phase(name)
                own[name].append(time.perf_counter() - start)
                done = f"{resolution}: round {turn}/{rounds}, {name}, {run.variant}"
                print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    figures = []
    for run, own, loss in zip(runs, seconds, losses, strict=True):
        phases = {name: 1000 * statistics.median(values[1:]) for name, values in own.items()}
        figures.append(
            {
                "resolution": resolution,
                "batch": batch,
                "variant": str(run.variant),
                "losses": loss,
                "ms": {**phases, "iteration": sum(phases[name] / k for name, k in iteration.intervals.items())},
                "spent": spent(run, iteration.intervals),
                "peak_mb": peak_mb(iteration, run.variant, resolution, batch) if memory else None,
            }
        )
    return figures


def peak_mb(iteration: Iteration, variant: Variant, resolution: int, batch: int) -> float:
    """Largest resident memory, in MB, of a process of its own that trains one iteration; freed memory goes back."""
    options = ["--resolution", str(resolution), "--batch", str(batch), "--peak-of", str(variant)]
    command = [sys.executable, *iteration.command.split()[1:], *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def spent(run: Run, intervals: dict[str, int]) -> dict[str, float]:
    """Milliseconds of an iteration by category; what Python and autograd take between the ops is in none."""
    total: dict[str, float] = defaultdict(float)
    for name, interval in intervals.items():
        with Clock() as clock:
            run.phase(name)
        for what, value in clock.seconds.items():
            total[what] += 1000 * value / interval
    return dict(total)


def table(report: dict[str, Any]) -> str:
    """Iterations and phases as ratios to the best eager fp32, then the milliseconds by category."""
    phases = [name for name in report["figures"][0]["ms"] if name != "iteration"]
    lines = ["| resolution | variant | " + " | ".join([*phases, "iteration ms", "against eager fp32", "MB"]) + " |"]
    lines.append("|" + "---|" * (len(phases) + 5))
    for figure in report["figures"]:
        best = best_eager(report, figure["resolution"])
        ratios = [f"{best['ms'][name] / figure['ms'][name]:.2f}x" for name in phases]
        total = [f"{figure['ms']['iteration']:.0f}", f"{best['ms']['iteration'] / figure['ms']['iteration']:.2f}x"]
        total.append(f"{figure.get('peak_mb') or 0:.0f}")
        lines.append(f"| {figure['resolution']} | {figure['variant']} | " + " | ".join(ratios + total) + " |")
    categories = [*list(CATEGORIES), ELEMENTWISE]
    lines += ["", "| resolution | variant, ms of an iteration in | " + " | ".join(categories) + " |"]
    lines.append("|" + "---|" * (len(categories) + 2))
    for figure in report["figures"]:
        row = [f"{figure['spent'].get(what, 0):.0f}" for what in categories]
        lines.append(f"| {figure['resolution']} | {figure['variant']} | " + " | ".join(row) + " |")
    about = (
        f"{machine(report)}. Columns of phases: time of the best eager fp32 / of the variant. MB: peak of a process."
    )
    return "\n".join([*lines, "", about])


def machine(report: dict[str, Any]) -> str:
    """Where a report was measured, and with what."""
    simd = f" ({report['simd']})" if report["simd"] else ""
    return f"{report['device']}{simd}, {report['threads']} threads, torch {report['torch']}, commit {report['commit']}"


def is_plain_fp32(figure: dict[str, Any]) -> bool:
    return figure["variant"].startswith("eager") and "fp32" in figure["variant"]


def best_eager(report: dict[str, Any], resolution: int) -> dict[str, Any]:
    eager = [f for f in report["figures"] if f["resolution"] == resolution and is_plain_fp32(f)]
    return min(eager, key=lambda figure: figure["ms"]["iteration"])


def check_losses(figures: Sequence[dict[str, Any]]) -> None:
    """The losses of every variant are those of the first, to the precision of the mode.

    Raises:
        RuntimeError: they are not.
    """
    for figure in figures:
        tolerance = 1e-3 if "fp32" in figure["variant"] else 5e-2
        for name, value in figures[0]["losses"].items():
            if not abs(figure["losses"][name] - value) <= tolerance * abs(value) + 1e-6:
                raise RuntimeError(
                    f"bench: {figure['variant']}: the loss of {name} must be {value:.6g}, got {figure['losses'][name]}"
                )


def main(iteration: Iteration, argv: Sequence[str] | None = None) -> int:
    """The command line of a model's benchmark."""
    parser = argparse.ArgumentParser(prog=iteration.command, description=iteration.about)
    parser.add_argument("--resolution", type=int, nargs="+", default=list(iteration.resolutions), metavar="N")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts, after one to warm up")
    parser.add_argument("--variant", default="", metavar="TEXT", help="only those whose name contains this, e.g. fp32")
    parser.add_argument(
        "--no-memory", action="store_true", help="do not measure peak memory, a process for each variant"
    )
    parser.add_argument(
        "--peak-of", metavar="VARIANT", help="print the peak memory of one iteration of it, in MB, and stop"
    )
    parser.add_argument(
        "--loop", action="store_true", help="an iteration as the training loop runs it, with data: bench/models/loop.py"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the tables of bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        print((loop.table if args.loop else table)(json.loads((RESULTS / args.table).read_text())))
        return 0
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.peak_of:
        run = iteration.start(
            next(v for v in iteration.variants if str(v) == args.peak_of), args.resolution[0], args.batch
        )
        for name in iteration.intervals:
            run.phase(name)
        status = Path("/proc/self/status").read_text()  # not getrusage, whose maximum is the parent's too
        print(int(status.split("VmHWM:")[1].split()[0]) / 1e3)
        return 0
    from gankern._host import keep_freed_memory

    keep_freed_memory()
    variants = [v for v in iteration.variants if args.variant in str(v)]
    args.device, args.quick, args.flush_l2 = "cpu", False, False
    report = {**environment(args), "figures": []}
    if args.loop:
        return loop.main(iteration, variants, args, report)
    for resolution in args.resolution:
        report["figures"] += measure(iteration, variants, resolution, args.batch, args.rounds, not args.no_memory)
        check_losses([f for f in report["figures"] if f["resolution"] == resolution])
    if any(is_plain_fp32(f) for f in report["figures"]):
        print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0
