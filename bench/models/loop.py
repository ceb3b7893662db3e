"""`python -m bench.models.stylegan2 --loop`: an iteration as training runs it, with everything around its phases.

Real images are read, shuffled and moved, latents and labels drawn, phases run when they are due, the generator
averaged and statistics kept. Three trainings of the same networks: a loop in plain PyTorch on plain PyTorch's ops
(bench/models/plain_loop.py), gankern's loop on plain PyTorch's ops, and gankern's loop on its own.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from gankern.models.training.data import ImageArray, batches
from gankern.models.training.loop import train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import new_state

if TYPE_CHECKING:
    from bench.models.iteration import Iteration, Training, Variant

IMAGES = 256  # random ones, in memory
LOOPS = ("plain loop", "gankern's loop")


class OwnLoop:
    """gankern's training loop, an iteration at a time."""

    def __init__(self, training: Training, data: ImageArray) -> None:
        self.options, self.data = training.options, data
        self.state = new_state(training.G, training.D, training.options, torch.device("cpu"))
        self.phases = make_phases(self.state, self.options)
        self.reals = batches(data, self.options.batch * self.options.d_steps)

    def iteration(self, index: int) -> None:
        """Iteration number `index` from 0, which decides whether the regularisations are due."""
        self.state.cur_nimg = index * self.options.batch * self.options.d_steps
        with self.state.timer.host("data"):
            images, labels = next(self.reals)
        train_step(self.state, self.phases, self.options, self.data, images, labels)

    def losses(self) -> dict[str, float]:
        """The mean losses since the last call."""
        return {name: value["mean"] for name, value in self.state.stats.summary().items()}


def start(iteration: Iteration, variant: Variant, loop: str, resolution: int, batch: int) -> Any:
    """One training: networks, optimisers and data, the same numbers in each."""
    from bench.models.plain_loop import PlainLoop

    training = iteration.training(variant, resolution, batch)
    torch.manual_seed(1)
    images = torch.randint(256, [IMAGES, 3, resolution, resolution], dtype=torch.uint8)
    c_dim = getattr(training.G, "c_dim", 0)
    classes = torch.randint(c_dim, [IMAGES]) if c_dim else None
    data = ImageArray("random", images, None if classes is None else torch.eye(c_dim)[classes].numpy())
    if loop == LOOPS[1]:
        return OwnLoop(training, data)
    labels = data.encode_labels(torch.arange(IMAGES).numpy())
    return PlainLoop(training, images, labels)


def kinds(options: TrainingOptions) -> dict[int, Fraction]:
    """Iterations that stand for all: the first of each set of regularisations that are due, and how often it comes."""
    intervals = [
        interval if weight else 0
        for interval, weight in (
            (options.pl_interval, options.pl_weight),
            (options.r1_interval, options.r1_gamma),
        )
    ]
    cycle = math.lcm(*(max(interval, 1) for interval in intervals))
    first: dict[tuple[bool, ...], int] = {}
    shares: dict[int, Fraction] = {}
    for index in range(cycle):
        due = tuple(interval > 1 and index % interval == 0 for interval in intervals)
        index = first.setdefault(due, index)
        shares[index] = shares.get(index, Fraction(0)) + Fraction(1, cycle)
    return shares


def measure(
    iteration: Iteration, variants: Sequence[Variant], resolution: int, batch: int, rounds: int
) -> list[dict[str, Any]]:
    """Milliseconds of an iteration in each training: medians over rounds of each kind of iteration, by their shares."""
    cases = [(variant, loop) for variant in variants for loop in loops(variant)]
    runs = [start(iteration, variant, loop, resolution, batch) for variant, loop in cases]
    shares = kinds(runs[0].options)
    seconds: list[dict[int, list[float]]] = [{index: [] for index in shares} for _ in runs]
    for turn in range(rounds + 1):  # the first warms up
        for index in shares:
            for (variant, loop), run, own in zip(cases, runs, seconds, strict=True):
                with iteration.computing(variant):
                    begin = time.perf_counter()
                    run.iteration(index)
                    own[index].append(time.perf_counter() - begin)
                done = f"{resolution}: round {turn}/{rounds}, {loop}, {variant}"
                print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [
        {
            "resolution": resolution,
            "batch": batch,
            "variant": str(variant),
            "loop": loop,
            "ms": sum(float(share) * 1000 * statistics.median(own[index][1:]) for index, share in shares.items()),
        }
        for (variant, loop), own in zip(cases, seconds, strict=True)
    ]


def loops(variant: Variant) -> Sequence[str]:
    """The loops in which a variant's ops are measured."""
    return LOOPS if variant.who.startswith("eager") else LOOPS[1:]


def check_losses(iteration: Iteration, variants: Sequence[Variant], resolution: int, batch: int) -> None:
    """The losses of the first iteration are the same in both loops, on the same images.

    Raises:
        RuntimeError: They are not.
    """
    variant = next((v for v in variants if v.who.startswith("eager") and v.precision == "fp32"), None)
    if variant is None:
        return
    plain, own = (start(iteration, variant, loop, resolution, batch) for loop in LOOPS)
    images, labels = next(own.reals)
    plain.reals, own.reals = iter([(images, labels)]), iter([(images, labels)])
    for run in (plain, own):
        torch.manual_seed(2)
        with iteration.computing(variant):
            run.iteration(0)
    found = own.losses()
    for name, value in plain.losses.items():
        if not abs(found[name] - float(value)) <= 1e-3 * abs(float(value)) + 1e-6:
            raise RuntimeError(f"bench: {name} of the plain loop must be {found[name]:.6g}, got {float(value):.6g}")


def table(report: dict[str, Any]) -> str:
    """Iterations as ratios to the best plain loop in fp32."""
    lines = [
        "| resolution | batch | loop | ops | ms | images/s | against the best plain loop, fp32 |",
        "|---" * 7 + "|",
    ]
    for figure in report["figures"]:
        same = [f for f in report["figures"] if f["resolution"] == figure["resolution"]]
        best = min((f["ms"] for f in same if f["loop"] == LOOPS[0] and "fp32" in f["variant"]), default=None)
        ratio = f"{best / figure['ms']:.2f}x" if best else "-"
        rate = 1000 * figure["batch"] / figure["ms"]
        what = f"{figure['loop']} | {figure['variant']} | {figure['ms']:.0f} | {rate:.1f} | {ratio} |"
        lines.append(f"| {figure['resolution']} | {figure['batch']} | {what}")
    return "\n".join(lines)


def main(iteration: Iteration, variants: Sequence[Variant], args: argparse.Namespace, report: dict[str, Any]) -> int:
    """Measures, prints the table and writes the figures, as `bench.models.iteration.main` does."""
    from bench.models.iteration import RESULTS, machine

    for resolution in args.resolution:
        check_losses(iteration, variants, resolution, args.batch)
        report["figures"] += measure(iteration, variants, resolution, args.batch, args.rounds)
    print(f"{table(report)}\n\n{machine(report)}")
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0
