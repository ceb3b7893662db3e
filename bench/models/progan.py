"""`python -m bench.models.progan --resolution 64`: one training iteration of ProGAN, and where its time goes.

An iteration is the discriminator's step (WGAN-GP and the drift term, which is second order), the average of the
generator, and the generator's step, with gradients, sanitising and Adam, fully grown. Channels are half of the
published ones: fmap_base 4096. Plain PyTorch has two forms of a convolution that halves or doubles the size: 3x3 and a
filter, or, as `eager 4x4`, both in one kernel; the faster one counts.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch

import gankern
from bench.models.iteration import Iteration, Training, Variant, every, main
from gankern import convolution
from gankern.models.progan import Discriminator, Generator
from gankern.models.training.optimiser import flatten_gradients
from gankern.models.training.options import TrainingOptions


class Stage:
    """The losses and optimiser steps at the networks' current resolution: of the parameters that run there."""

    def __init__(self, G: Generator, D: Discriminator, G_ema: Generator, batch: int, device: str = "cpu") -> None:
        self.G, self.D, self.G_ema = G, D, G_ema
        self.z = torch.randn([batch, G.z_dim], device=device)
        self.real = torch.rand([batch, G.img_channels, *G.img_size()], device=device) * 2 - 1
        self.loss_of = {"Dmain": self.d_loss, "Gmain": self.g_loss}
        self.parameters, self.gradients, self.opt = {}, {}, {}
        for name, net in (("Dmain", D), ("Gmain", G)):
            net.requires_grad_(True)
            net.zero_grad()  # of the stage before
            found = torch.autograd.grad(self.g_loss(), list(net.parameters()), allow_unused=True)
            runs = [p for p, gradient in zip(net.parameters(), found, strict=True) if gradient is not None]
            self.parameters[name] = torch.nn.ParameterList(runs)
            self.gradients[name] = flatten_gradients(self.parameters[name])
            self.opt[name] = torch.optim.Adam(runs, lr=1e-3, betas=(0.0, 0.99), eps=1e-8, fused=True)

    def d_loss(self) -> torch.Tensor:
        """WGAN-GP with drift (Karras et al., 2018, appendix A.1)."""
        real = gankern.fade_detail(self.real, self.D.alpha) if self.D.fading else self.real
        with torch.no_grad():
            fake = self.G(self.z)
        fake_scores, real_scores = self.D(fake), self.D(real)
        penalty = gankern.wgan_gp_penalty(self.D, real, fake)[:, None]
        return (fake_scores - real_scores + 10 * penalty + 0.001 * real_scores.square()).mean()

    def g_loss(self) -> torch.Tensor:
        return -self.D(self.G(self.z)).mean()

    def phase(self, name: str) -> None:
        if name == "EMA":
            gankern.ema_update(self.G_ema, self.G, 0.999)
            return
        for other, parameters in self.parameters.items():
            parameters.requires_grad_(other == name)
        self.gradients[name].zero_()
        self.loss_of[name]().backward()
        gankern.sanitize_gradients(self.gradients[name])
        self.opt[name].step()


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, batch: int) -> None:
        G, D, _ = training(variant, resolution, batch)
        G_ema = copy.deepcopy(G).requires_grad_(False)
        torch.manual_seed(1)
        self.variant, self.stage = variant, Stage(G, D, G_ema, batch)

    def phase(self, name: str) -> None:
        with computing(self.variant):
            self.stage.phase(name)

    def losses(self) -> dict[str, float]:
        """The losses of both phases before the first step."""
        found = {}
        for name, loss in self.stage.loss_of.items():
            torch.manual_seed(2)
            with computing(self.variant):
                found[name] = loss().item()
        return found


def options_of(variant: Variant) -> dict:
    """Precision and memory layout, as options of the networks."""
    lowp = {"num_fp16_res": 99, "lowp_dtype": torch.bfloat16} if variant.precision == "bf16" else {}
    return {"channels_last": variant.layout == "channels_last", **lowp}


@contextmanager
def computing(variant: Variant) -> Iterator[None]:
    """Inside it, the networks compute as the variant does."""
    folds = mock.patch.object(convolution, "folds_filter", lambda x, w, taps: taps == 2)
    with variant.backend(), folds if "4x4" in variant.who else nullcontext():
        yield


def training(variant: Variant, resolution: int, batch: int) -> Training:
    """The networks of a variant and the options of its training, the same numbers for each."""
    torch.manual_seed(0)
    options = {"fmap_base": 4096, **options_of(variant)}
    G, D = Generator(512, 0, resolution, 3, **options), Discriminator(0, resolution, 3, **options)
    losses: dict[str, Any] = {"loss": "wgan", "gp_weight": 10.0, "drift_weight": 0.001}
    average: dict[str, Any] = {"order": ("D", "ema", "G"), "ema_beta": 0.999}
    return Training(
        G, D, TrainingOptions(batch, 1, 0.001, 0.0, 0, 0.0, 0, 0.0, None, None, 1, 1, 1, **losses, **average)
    )


PROGAN = Iteration(
    "python -m bench.models.progan",
    __doc__,
    Run,
    {"Dmain": 1, "EMA": 1, "Gmain": 1},
    every("eager", "eager 4x4", "gankern"),
    (64, 128),
    training,
    computing,
)

if __name__ == "__main__":
    sys.exit(main(PROGAN))
