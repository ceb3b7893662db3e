"""`python -m bench.models.stylegan --resolution 64`: one training iteration of StyleGAN, and where its time goes.

An iteration is D's step with R1 (gamma 10, every step, as published), the average of the generator, and G's step, each
with style mixing, gradients, sanitising and Adam, at the full resolution. Channels are half of the published ones,
8192 / resolution and at most 512, unless --channel-base 16384 is given. Plain PyTorch is the same networks with
GANKERN_BACKEND=eager, in both memory layouts; freed memory is kept (`gankern._host.keep_freed_memory`) for all.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F

import gankern
from bench.models.stylegan2 import (
    CATEGORIES,
    ELEMENTWISE,
    RESULTS,
    VARIANTS,
    Clock,
    Variant,
    best_eager,
    check_losses,
)
from bench.run import environment
from gankern.models.stylegan import Discriminator, Generator
from gankern.models.training.optimiser import flatten_gradients
from gankern.models.training.regularisers import mix_styles

PHASES = ("D", "EMA", "G")
R1_GAMMA = 10.0


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, batch: int, channel_base: int) -> None:
        torch.manual_seed(0)
        options: dict[str, Any] = {"channel_base": channel_base, "channels_last": variant.layout == "channels_last"}
        options |= {"num_fp16_res": 99, "lowp_dtype": torch.bfloat16} if variant.precision == "bf16" else {}
        self.variant = variant
        self.G, self.D = Generator(512, 0, 512, resolution, 3, **options), Discriminator(0, resolution, 3, **options)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.gradients = {net: flatten_gradients(net) for net in (self.G, self.D)}
        adam: dict[str, Any] = {"lr": 0.001, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True}
        self.optimisers = {net: torch.optim.Adam(net.parameters(), **adam) for net in (self.G, self.D)}
        torch.manual_seed(1)
        self.z = torch.randn([batch, 512])
        self.real_img = torch.rand([batch, 3, resolution, resolution]) * 2 - 1

    def phase(self, name: str) -> None:
        with self._backend():
            if name == "EMA":
                gankern.ema_update(self.G_ema, self.G, 0.999)
                return
            net, losses = self._of(name)
            self.gradients[net].zero_()
            for loss in losses():
                loss.backward()
            gankern.sanitize_gradients(self.gradients[net])
            self.optimisers[net].step()

    def losses(self) -> dict[str, float]:
        """The losses of both networks before the first step."""
        found = {}
        with self._backend():
            for name in ("D", "G"):
                torch.manual_seed(2)
                _, losses = self._of(name)
                found[name] = sum(loss.item() for loss in losses())
        return found

    def _backend(self) -> Any:
        return gankern.use_backend("eager") if self.variant.who == "eager" else nullcontext()

    def _of(self, name: str) -> tuple[torch.nn.Module, Callable[[], Iterator[torch.Tensor]]]:
        net, losses = {"D": (self.D, self._d_losses), "G": (self.G, self._g_losses)}[name]
        for other in (self.G, self.D):
            other.requires_grad_(other is net)
        return net, losses

    def _generate(self, update_emas: bool) -> torch.Tensor:
        ws = self.G.mapping(self.z, update_emas=update_emas)
        ws = mix_styles(ws, self.G.mapping(torch.randn_like(self.z)), 0.9)
        return self.G.synthesis(ws)

    def _g_losses(self) -> Iterator[torch.Tensor]:
        yield F.softplus(-self.D(self._generate(update_emas=False))).mean()

    def _d_losses(self) -> Iterator[torch.Tensor]:
        yield F.softplus(self.D(self._generate(update_emas=True))).mean()
        scores = []

        def D(img: torch.Tensor) -> torch.Tensor:
            scores.append(self.D(img))
            return scores[0]

        penalty = gankern.r1_penalty(D, self.real_img)  # of the same pass as the loss
        yield F.softplus(-scores[0]).mean() + penalty.mean() * (R1_GAMMA / 2)


def measure(
    variants: Sequence[Variant], resolution: int, batch: int, channel_base: int, rounds: int
) -> list[dict[str, Any]]:
    """Per variant: its losses, milliseconds per phase (median over rounds), and milliseconds per category."""
    runs = [Run(variant, resolution, batch, channel_base) for variant in variants]
    losses = [run.losses() for run in runs]
    seconds: list[dict[str, list[float]]] = [defaultdict(list) for _ in runs]
    for turn in range(rounds + 1):  # the first warms up
        for name in PHASES:
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
                "channel_base": channel_base,
                "variant": str(run.variant),
                "losses": loss,
                "ms": {**phases, "iteration": sum(phases.values())},
                "spent": spent(run),
            }
        )
    return figures


def spent(run: Run) -> dict[str, float]:
    """Milliseconds of an iteration by category; what Python and autograd take between the ops is in none."""
    with Clock() as clock:
        for name in PHASES:
            run.phase(name)
    return {what: 1000 * seconds for what, seconds in clock.seconds.items()}


def table(report: dict[str, Any]) -> str:
    """Iterations and phases as ratios to the best eager fp32, then the milliseconds by category."""
    lines = ["| resolution | variant | " + " | ".join([*PHASES, "iteration ms", "against eager fp32"]) + " |"]
    lines.append("|" + "---|" * (len(PHASES) + 4))
    for figure in report["figures"]:
        best, ms = best_eager(report, figure["resolution"])["ms"], figure["ms"]
        row = [f"{best[name] / ms[name]:.2f}x" for name in PHASES]
        row += [f"{ms['iteration']:.0f}", f"{best['iteration'] / ms['iteration']:.2f}x"]
        lines.append(f"| {figure['resolution']} | {figure['variant']} | " + " | ".join(row) + " |")
    categories = [*CATEGORIES, ELEMENTWISE]
    lines += ["", "| resolution | variant, ms of an iteration in | " + " | ".join(categories) + " |"]
    lines.append("|" + "---|" * (len(categories) + 2))
    for figure in report["figures"]:
        row = [f"{figure['spent'].get(what, 0):.0f}" for what in categories]
        lines.append(f"| {figure['resolution']} | {figure['variant']} | " + " | ".join(row) + " |")
    machine = f"{report['device']} ({report['simd']}), {report['threads']} threads, torch {report['torch']}"
    first = report["figures"][0]
    work = f"batch {first['batch']}, channel_base {first['channel_base']} (published: 16384)"
    columns = "Columns of phases: time of the best eager fp32 / of the variant."
    return "\n".join([*lines, "", f"{machine}, commit {report['commit']}; {work}. {columns}"])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.stylegan", description=__doc__)
    parser.add_argument("--resolution", type=int, nargs="+", default=[64, 128], metavar="N")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channel-base", type=int, default=8192, metavar="N", help="channels: N / resolution, to 512")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts, after one to warm up")
    parser.add_argument("--variant", default="", metavar="TEXT", help="only those whose name contains this, e.g. fp32")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the tables of bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        print(table(json.loads((RESULTS / args.table).read_text())))
        return 0
    from gankern._host import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    variants = [v for v in VARIANTS if args.variant in str(v)]
    args.device, args.quick, args.flush_l2 = "cpu", False, False
    report = {**environment(args), "figures": []}
    for resolution in args.resolution:
        figures = measure(variants, resolution, args.batch, args.channel_base, args.rounds)
        check_losses(figures)
        report["figures"] += figures
    if any(f["variant"].startswith("eager fp32") for f in report["figures"]):
        print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
