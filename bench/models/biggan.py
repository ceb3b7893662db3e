"""`python -m bench.models.biggan --resolution 64`: one training iteration of BigGAN, and how many calls it takes.

An iteration is a D step with the hinge loss, on generated and real images in one batch, a G step, Adam for both, and
the average of G's whole state. Plain PyTorch is measured twice, in both memory layouts: as published (bench/models/
biggan_eager.py: spectral norm layer by layer), and as gankern's networks with GANKERN_BACKEND=eager, which convolve
1x1 before upsampling and after pooling; the best of all counts. Freed memory is kept
(`gankern._host.keep_freed_memory`) for all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankern
from bench.models import biggan_eager
from bench.models.stylegan2 import RESULTS
from bench.run import environment
from gankern.models.biggan import Discriminator, Generator
from gankern.models.resnet import discriminator_stages, generator_stages
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import Batch, make_phases, run_phase
from gankern.models.training.state import TrainingState, new_state

CLASSES = 1000
PHASES = ("D step", "G step", "EMA")
VIEWS = ("view", "reshape", "expand", "permute", "transpose", "t", "slice", "select", "split", "unsqueeze", "squeeze",
         "detach", "alias", "as_strided", "unsafe_view", "narrow", "unbind", "chunk", "split_with_sizes")  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """One way to compute the same iteration."""

    who: str  # 'published' and 'eager', both plain PyTorch, or 'gankern'
    precision: str  # 'fp32' or 'bf16'
    layout: str  # 'NCHW' or 'channels_last'

    def __str__(self) -> str:
        return f"{self.who} {self.precision} {self.layout}"


VARIANTS = [
    Variant(who, precision, layout)
    for precision in ("fp32", "bf16")
    for who in ("published", "eager", "gankern")
    for layout in ("NCHW", "channels_last")
]


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, ch: int, batch: int, deep: bool) -> None:
        torch.manual_seed(0)
        self.variant = variant
        attention = 64 if resolution >= 64 else 16
        G, D = _networks(variant, resolution, ch, deep, attention)
        self.options = TrainingOptions(
            batch, 1, 1e-4, 0.0, 0, 0.0, 0, 0.0, None, None, 1, 1, 1,
            beta2=0.999, adam_eps=1e-6, loss="hinge", d_lr=4e-4, d_joint=True, ema_beta=0.9999, ema_buffers="lerp",
        )  # fmt: skip
        self.state: TrainingState = new_state(G, D, self.options, torch.device("cpu"))
        g_phase, d_phase = make_phases(self.state, self.options)
        self.phases = {"D step": d_phase, "G step": g_phase}
        torch.manual_seed(1)
        real_img = torch.rand([batch, 3, resolution, resolution]) * 2 - 1
        c, real_c = (torch.eye(CLASSES)[torch.randint(CLASSES, [batch])] for _ in range(2))
        self.batch = Batch(real_img, real_c, torch.randn([batch, G.z_dim]), c)

    @contextlib.contextmanager
    def mode(self) -> Iterator[None]:
        lowp = self.variant.precision == "bf16"
        with contextlib.ExitStack() as stack:
            if self.variant.who == "eager":
                stack.enter_context(gankern.use_backend("eager"))
            if self.variant.who == "published" and lowp:
                stack.enter_context(torch.autocast("cpu", torch.bfloat16))
            yield

    def phase(self, name: str) -> None:
        with self.mode():
            if name == "EMA":
                gankern.ema_update(self.state.G_ema, self.state.G, 0.9999, buffers="lerp")
            else:
                run_phase(self.phases[name], self.state, self.options, self.batch)

    def losses(self) -> dict[str, float]:
        """The losses before the first step, of weights and vectors that it leaves as they are."""
        found = {}
        saved = [{k: v.clone() for k, v in net.state_dict().items()} for net in (self.state.G, self.state.D)]
        with self.mode(), torch.no_grad():
            for name, phase in self.phases.items():
                found[name] = sum(loss.item() for loss in phase.losses(self.state, self.options, self.batch))
        for net, values in zip((self.state.G, self.state.D), saved, strict=True):
            net.load_state_dict(values)
        return found

    def calls(self) -> dict[str, int]:
        """Calls of operations that are no views, in a forward pass of G and one of D, in training."""
        found = {}
        z, c, img = self.batch.z, self.batch.c, self.batch.real_img
        for name, net, inputs in (("G", self.state.G, (z, c)), ("D", self.state.D, (img, c))):
            with self.mode(), Calls() as calls:
                net(*inputs)
            found[name] = calls.number
        return found


def _networks(
    variant: Variant, resolution: int, ch: int, deep: bool, attention: int
) -> tuple[torch.nn.Module, torch.nn.Module]:
    published = variant.who == "published"
    lowp_dtype = torch.bfloat16 if variant.precision == "bf16" and not published else None
    options: dict[str, Any] = {
        "ch": ch,
        "deep": deep,
        "attention": (attention,),
        "lowp_dtype": lowp_dtype,
        "channels_last": variant.layout == "channels_last",
    }
    stages = generator_stages(resolution, ch), discriminator_stages(resolution, ch, None if deep else 3)
    z_dim = 20 * (len(stages[0]) + 1)
    G = Generator(z_dim, CLASSES, resolution, 3, **options)
    D = Discriminator(CLASSES, resolution, 3, **options)
    with torch.no_grad():
        for net in (G, D):
            for name, parameter in net.named_parameters():
                if name.endswith("gamma"):
                    parameter.fill_(0.5)  # at first it is 0, and the attention is not seen
    if not published:
        return G, D
    sizes = tuple([stage[:3] for stage in own] for own in stages)
    after = tuple([k for k, stage in enumerate(own) if stage.resolution == attention] for own in stages)
    return tuple(
        net.to(memory_format=torch.channels_last) if options["channels_last"] else net
        for net in biggan_eager.like(G, D, sizes, after)
    )


class Calls(TorchDispatchMode):
    """Counts operations, but not views."""

    def __init__(self) -> None:
        super().__init__()
        self.by_name: Counter[str] = Counter()

    @property
    def number(self) -> int:
        return sum(self.by_name.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        if name not in VIEWS:
            self.by_name[name] += 1
        return func(*args, **(kwargs or {}))


def measure(
    variants: Sequence[Variant], resolution: int, ch: int, batch: int, deep: bool, rounds: int
) -> list[dict[str, Any]]:
    """Per variant: its losses, calls in a forward pass, and milliseconds per phase (median over rounds)."""
    runs = [Run(variant, resolution, ch, batch, deep) for variant in variants]
    losses, calls = [run.losses() for run in runs], [run.calls() for run in runs]
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
    for run, own, loss, number in zip(runs, seconds, losses, calls, strict=True):
        phases = {name: 1000 * statistics.median(values[1:]) for name, values in own.items()}
        shape = {"resolution": resolution, "ch": ch, "batch": batch, "deep": deep}
        ms = {**phases, "iteration": sum(phases.values())}
        figures.append({**shape, "variant": str(run.variant), "losses": loss, "calls": number, "ms": ms})
    return figures


def table(report: dict[str, Any]) -> str:
    """Phases and iterations as ratios to the best eager fp32, and calls."""
    lines = ["| resolution | ch | variant | " + " | ".join(PHASES)]
    lines[0] += " | iteration ms | against eager fp32 | calls in G | calls in D |"
    lines.append("|" + "---|" * (len(PHASES) + 7))
    for figure in report["figures"]:
        best = best_eager(report, figure)
        ratios = [f"{best['ms'][name] / figure['ms'][name]:.2f}x" for name in PHASES]
        total = [f"{figure['ms']['iteration']:.0f}", f"{best['ms']['iteration'] / figure['ms']['iteration']:.2f}x"]
        number = [str(figure["calls"][name]) for name in ("G", "D")]
        shape = f"| {figure['resolution']} | {figure['ch']}{' deep' if figure['deep'] else ''} | {figure['variant']} | "
        lines.append(shape + " | ".join(ratios + total + number) + " |")
    machine = f"{report['device']} ({report['simd']}), {report['threads']} threads, torch {report['torch']}"
    about = f"{machine}, commit {report['commit']}. Columns of phases: time of the best eager fp32 / of the variant."
    return "\n".join([*lines, "", about])


def best_eager(report: dict[str, Any], of: dict[str, Any]) -> dict[str, Any]:
    """The fastest fp32 iteration in plain PyTorch of the same shape."""
    same = [f for f in report["figures"] if all(f[k] == of[k] for k in ("resolution", "ch", "batch", "deep"))]
    eager = [f for f in same if f["variant"].startswith(("eager fp32", "published fp32"))]
    return min(eager, key=lambda figure: figure["ms"]["iteration"])


def check_losses(figures: Sequence[dict[str, Any]]) -> None:
    """The losses of every variant are those of the first, to the precision of the mode.

    Raises:
        RuntimeError: they are not.
    """
    for figure in figures:
        tolerance = 1e-3 if "fp32" in figure["variant"] else 5e-2
        for name, value in figures[0]["losses"].items():
            if not abs(figure["losses"][name] - value) <= tolerance * (1 + abs(value)):
                raise RuntimeError(
                    f"bench: {figure['variant']}: the loss of {name} must be {value:.6g}, got {figure['losses'][name]}"
                )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.biggan", description=__doc__)
    parser.add_argument("--resolution", type=int, nargs="+", default=[32, 64, 128], metavar="N")
    parser.add_argument("--ch", type=int, nargs="+", default=[16, 32], help="units of the widths")
    parser.add_argument("--deep", action="store_true", help="BigGAN-deep; its ch is at least 16")
    parser.add_argument("--batch", type=int, default=8)
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
        for ch in args.ch:
            figures = measure(variants, resolution, ch, args.batch, args.deep, args.rounds)
            check_losses(figures)
            report["figures"] += figures
    if any(f["variant"].startswith(("eager fp32", "published fp32")) for f in report["figures"]):
        print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
