"""`python -m bench.models.biggan --resolution 64 --ch 32 --batch 8`: one training iteration of BigGAN.

An iteration is a D step with the hinge loss, on generated and real images in one batch, a G step, Adam for both, and
the average of G's whole state. Plain PyTorch is there twice: `eager-published` normalises the weights layer by layer
and has every operation in the paper's order (bench/models/biggan_eager.py), in bf16 under autocast; `eager` is
gankern's networks in plain PyTorch, which convolve 1x1 before upsampling and after pooling. `--calls` counts the
operations of a forward pass instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankern
from bench.models import biggan_eager
from bench.models.iteration import Iteration, Training, Variant, every, main
from gankern.models.biggan import Discriminator, Generator
from gankern.models.resnet import discriminator_stages, generator_stages
from gankern.models.training.objectives import Batch
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.state import TrainingState, new_state

CLASSES = 1000
VIEWS = {"view", "reshape", "_reshape_alias", "expand", "permute", "transpose", "t", "slice", "select", "split",
         "split_with_sizes", "unsqueeze", "squeeze", "detach", "alias", "as_strided", "_unsafe_view"}  # fmt: skip


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, batch: int, ch: int, deep: bool) -> None:
        self.variant = variant
        G, D, self.options = training(variant, resolution, batch, ch, deep)
        self.state: TrainingState = new_state(G, D, self.options, torch.device("cpu"))
        self.phases = {phase.name: phase for phase in make_phases(self.state, self.options)}
        torch.manual_seed(1)
        real_img = torch.rand([batch, 3, resolution, resolution]) * 2 - 1
        c, real_c = (torch.eye(CLASSES)[torch.randint(CLASSES, [batch])] for _ in range(2))
        self.batch = Batch(real_img, real_c, torch.randn([batch, self.state.G.z_dim]), c)

    def phase(self, name: str) -> None:
        with computing(self.variant):
            if name == "EMA":
                gankern.ema_update(self.state.G_ema, self.state.G, 0.9999, buffers="lerp")
            else:
                run_phase(self.phases[name], self.state, self.options, self.batch)

    def losses(self) -> dict[str, float]:
        """The losses before the first step; the networks' buffers stay as they are."""
        found = {}
        networks = (self.state.G, self.state.D)
        saved = [{name: t.clone() for name, t in net.state_dict().items()} for net in networks]
        with computing(self.variant), torch.no_grad():
            for name, phase in self.phases.items():
                found[name] = sum(loss.item() for loss in phase.losses(self.state, self.options, self.batch))
        for net, state in zip(networks, saved, strict=True):
            net.load_state_dict(state)
        return found

    def calls(self) -> dict[str, int]:
        """Operations in a forward pass of each network in training, without views."""
        found = {}
        inputs = {"G": (self.batch.z, self.batch.c), "D": (self.batch.real_img, self.batch.real_c)}
        for name, arguments in inputs.items():
            with computing(self.variant), Calls() as calls:
                getattr(self.state, name)(*arguments)
            found[name] = calls.number
        return found


class Calls(TorchDispatchMode):
    """Counts operations, but not views."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func._schema.name.split("::")[1] not in VIEWS
        return func(*args, **(kwargs or {}))


def networks(variant: Variant, resolution: int, ch: int, deep: bool) -> tuple[torch.nn.Module, torch.nn.Module]:
    """G and D as a variant has them, with attention at 64, or at 16 of smaller images, that is not 0."""
    published = variant.who == "eager-published"
    channels_last = variant.layout == "channels_last"
    attention = 64 if resolution >= 64 else 16
    options: dict[str, Any] = {"ch": ch, "deep": deep, "attention": (attention,), "channels_last": channels_last}
    if variant.precision == "bf16" and not published:
        options["lowp_dtype"] = torch.bfloat16
    stages = generator_stages(resolution, ch), discriminator_stages(resolution, ch, None if deep else 3)
    nets = (
        Generator(20 * (len(stages[0]) + 1), CLASSES, resolution, 3, **options),
        Discriminator(CLASSES, resolution, 3, **options),
    )
    with torch.no_grad():
        for net in nets:
            for name, parameter in net.named_parameters():
                if name.endswith("gamma"):
                    parameter.fill_(0.5)
    if not published:
        return nets
    sizes = tuple([stage[:3] for stage in own] for own in stages)
    after = tuple([k for k, stage in enumerate(own) if stage.resolution == attention] for own in stages)
    G, D = biggan_eager.like(*nets, sizes, after)
    if channels_last:
        G, D = (net.to(memory_format=torch.channels_last) for net in (G, D))
    return G, D


def computing(variant: Variant) -> AbstractContextManager[Any]:
    """Inside it, the networks compute as the variant does."""
    if variant.who == "eager-published":
        return torch.autocast("cpu", torch.bfloat16, enabled=variant.precision == "bf16")
    return variant.backend()


def training(variant: Variant, resolution: int, batch: int, ch: int, deep: bool) -> Training:
    """The networks of a variant and the options of its training, the same numbers for each."""
    torch.manual_seed(0)
    G, D = networks(variant, resolution, ch, deep)
    options = TrainingOptions(
        batch, 1, 1e-4, 0.0, 0, 0.0, 0, 0.0, None, None, 1, 1, 1,
        beta2=0.999, adam_eps=1e-6, loss="hinge", d_lr=4e-4, d_joint=True, ema_beta=0.9999, ema_buffers="lerp",
    )  # fmt: skip
    return Training(G, D, options)


def print_calls(start: Callable[[Variant, int, int], Run], resolutions: Sequence[int], batch: int) -> None:
    """A table of the calls of each variant in fp32."""
    print("| resolution | variant | calls in G | calls in D |\n|---|---|---|---|")
    for resolution in resolutions:
        for variant in BIGGAN_VARIANTS:
            if variant.precision == "fp32" and variant.layout == "channels_last":
                calls = start(variant, resolution, batch).calls()
                print(f"| {resolution} | {variant} | {calls['G']} | {calls['D']} |")


BIGGAN_VARIANTS = every("eager-published", "eager", "gankern")


def run(argv: Sequence[str] | None = None) -> int:
    """The command line: what all benchmarks of models have, and BigGAN's own options."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--ch", type=int, default=32)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--calls", action="store_true")
    own, rest = parser.parse_known_args(argv)
    measured = biggan(own.ch, own.deep)
    if own.calls:
        print_calls(measured.start, measured.resolutions, 2)
        return 0
    return main(measured, rest)


def biggan(ch: int = 32, deep: bool = False) -> Iteration:
    """What an iteration of BigGAN of a width consists of."""
    return Iteration(
        f"python -m bench.models.biggan --ch {ch}{' --deep' if deep else ''}",
        f"{__doc__} Own options: --ch N, the unit of the widths [32], --deep, --calls.",
        partial(Run, ch=ch, deep=deep),
        {"Dmain": 1, "Gmain": 1, "EMA": 1},
        BIGGAN_VARIANTS,
        (32, 64, 128),
        partial(training, ch=ch, deep=deep),
        computing,
    )


if __name__ == "__main__":
    sys.exit(run())
