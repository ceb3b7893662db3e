"""`python -m bench.models.throughput [--device cuda]`: images per second of whole published configurations.

Each iteration is that of the training loop with data in memory: all phases with lazy regularisation, optimisers, the
average, statistics. Plain PyTorch is the same loop and the same networks with GANKERN_BACKEND=eager. Beside each figure
stands the share of the machine's measured matrix product that its floating-point operations make use of.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

import gankern
from bench.ceilings import ceilings
from bench.models.loop import IMAGES, kinds
from bench.run import environment
from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.training.capture import capture_phases
from gankern.models.training.data import ImageArray, batches
from gankern.models.training.loop import train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import new_state

RESULTS = Path(__file__).parents[1] / "results"
WHO = ("eager", "gankern", "graphs")
WARM_UP = 4  # iterations: libraries choose their routines, phases are captured


class Case(NamedTuple):
    """A published configuration: preset, side of the images, images per iteration."""

    cfg: str
    resolution: int
    batch: int


class Variant(NamedTuple):
    """One way to compute it."""

    who: str  # `eager`, `gankern` or, on a GPU, `graphs`: gankern with its phases captured
    precision: str
    channels_last: bool

    def __str__(self) -> str:
        return f"{self.who} {self.precision} {'channels_last' if self.channels_last else 'NCHW'}"


CASES = {
    "cuda": (
        Case("paper256", 256, 32),
        Case("stylegan2", 1024, 8),
        Case("biggan128", 128, 128),
        Case("progan", 1024, 8),
        Case("stylegan", 1024, 8),
    ),
    "cpu": (Case("paper256", 64, 4), Case("progan", 64, 4), Case("stylegan", 64, 4), Case("biggan128", 32, 8)),
}


class Training:
    """A configuration on random images, an iteration at a time; networks that grow are fully grown."""

    def __init__(self, case: Case, variant: Variant, device: str):
        family, row = find_preset(case.cfg)
        c_dim = 1000 if row.cond else 0
        model, options = resolve(case.cfg, case.resolution, 3, c_dim, precision=variant.precision)
        model = replace(model, channels_last=variant.channels_last)  # type: ignore[type-var]
        self.options: TrainingOptions = replace(options, batch=case.batch, batch_gpu=None, growth=None, kimg=1e9)
        torch.manual_seed(0)
        images = torch.randint(256, [IMAGES, 3, case.resolution, case.resolution], dtype=torch.uint8)
        labels = torch.randint(c_dim, [IMAGES]).numpy() if c_dim else None
        self.data = ImageArray("random", images, labels)
        self.data.c_dim = c_dim  # also where the highest class was not drawn
        self.state = new_state(*FAMILIES[family].build(model), self.options, torch.device(device))
        if variant.who == "graphs":
            capture_phases(self.state)
        self.phases = make_phases(self.state, self.options)
        self.reals = batches(self.data, self.options.batch * self.options.d_steps)
        self.variant, self.device = variant, device

    def iteration(self, index: int) -> None:
        """Iteration number `index` from 0, which decides which regularisations are due."""
        self.state.cur_nimg = index * self.options.batch * self.options.d_steps
        with gankern.use_backend("eager") if self.variant.who == "eager" else nullcontext():
            train_step(self.state, self.phases, self.options, self.data, *next(self.reals))

    def seconds(self, index: int) -> float:
        """The time of an iteration, its end waited for."""
        self._wait()
        start = time.perf_counter()
        self.iteration(index)
        self._wait()
        self.state.stats.values.clear()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def measure(case: Case, variants: Sequence[Variant], device: str, rounds: int) -> list[dict[str, Any]]:
    """A line for each variant, one after the other, since large networks do not fit beside each other."""
    found, flops = [], None
    for variant in variants:
        print(f"{case.cfg} {case.resolution}, batch {case.batch}: {variant}", file=sys.stderr, flush=True)
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        line: dict[str, Any] = {**case._asdict(), "variant": str(variant)}
        try:
            training = Training(case, variant, device)
            shares = kinds(training.options)
            for index in [*shares] * WARM_UP:
                training.iteration(index)
            if flops is None and variant.who == "eager":
                flops = operations(training, shares)
            times = {index: statistics.median(training.seconds(index) for _ in range(rounds)) for index in shares}
        except (RuntimeError, ValueError) as error:  # what one variant cannot do says nothing about the others
            found.append({**line, "error": str(error).partition("\n")[0]})
            continue
        ms = 1000 * sum(float(share) * times[index] for index, share in shares.items())
        images = case.batch * training.options.d_steps
        line |= {"ms": round(ms, 3), "images_per_sec": round(1000 * images / ms, 2), "gflop": flops}
        if device == "cuda":
            line["peak_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
        found.append(line)
        del training
        gc.collect()
    return found


class Operations(TorchDispatchMode):
    """Sums the floating-point operations of all that runs; torch's counter hooks modules, which penalties forbid."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def operations(training: Training, shares: dict[int, Fraction]) -> float:
    """Floating-point operations of an iteration's convolutions and matrix products, in 10^9, as eager PyTorch does."""
    total = 0.0
    for index, share in shares.items():
        with Operations() as counter:
            training.iteration(index)
        total += float(share) * counter.total / 1e9
    return round(total, 2)


def table(report: dict[str, Any]) -> str:
    """Images per second, relative to the best eager, and the share of the machine's matrix product."""
    lines = ["| network | pixels | batch | variant | images/s | against the best eager | of matmul | peak MB |"]
    lines.append("|---" * 8 + "|")
    for figure in report["figures"]:
        same = [f for f in report["figures"] if f["cfg"] == figure["cfg"] and f["resolution"] == figure["resolution"]]
        best = max((f["images_per_sec"] for f in same if f["variant"].startswith("eager") and "ms" in f), default=0.0)
        start = f"| {figure['cfg']} | {figure['resolution']} | {figure['batch']} | {figure['variant']} |"
        if "error" in figure:
            lines.append(f"{start} - | - | - | {figure['error'][:80]} |")
            continue
        precision = "fp32" if "fp32" in figure["variant"] else "bf16"
        peak = report["ceilings"][f"matmul_gflops_{precision}"]
        share = f"{100 * figure['gflop'] / (figure['ms'] / 1000) / peak:.0f} %" if figure["gflop"] else "-"
        ratio = f"{figure['images_per_sec'] / best:.2f}x" if best else "-"
        lines.append(f"{start} {figure['images_per_sec']:g} | {ratio} | {share} | {figure.get('peak_mb', '-')} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.throughput", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--cfg", nargs="+", metavar="NAME", help="these presets alone")
    parser.add_argument("--who", nargs="+", default=WHO, choices=WHO, help="eager, gankern, and its CUDA graphs [all]")
    parser.add_argument("--precision", nargs="+", default=["bf16", "fp32"], choices=("bf16", "fp32"))
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts [3]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures too")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU that this PyTorch can use")
    whos = [who for who in args.who if who != "graphs" or args.device == "cuda"]
    variants = [Variant(w, p, last) for p in args.precision for w in whos for last in (True, False)]
    args.quick, args.flush_l2 = False, False
    report = {**environment(args), "ceilings": ceilings(args.device), "figures": []}
    for case in CASES[args.device]:
        if not args.cfg or case.cfg in args.cfg:
            report["figures"] += measure(case, variants, args.device, args.rounds)
            if args.json:
                args.json.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
