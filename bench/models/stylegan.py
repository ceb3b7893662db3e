"""`python -m bench.models.stylegan --resolution 64`: one training iteration of StyleGAN, and where its time goes.

An iteration is D's step with R1 (every step, as published), the average of the generator, and G's step, each with style
mixing, gradients, sanitising and Adam, at the full resolution. Channels are half of the published ones: channel_base
8192 instead of 16384, at most 512.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

import gankern
from bench.models.iteration import VARIANTS, Iteration, Training, Variant, main
from gankern.models.stylegan import Discriminator, Generator
from gankern.models.training.optimiser import flatten_gradients
from gankern.models.training.options import TrainingOptions
from gankern.models.training.regularisers import mix_styles

CHANNEL_BASE = 8192
R1_GAMMA = 10.0


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, batch: int) -> None:
        self.variant = variant
        self.G, self.D, _ = training(variant, resolution, batch)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        self.gradients = {net: flatten_gradients(net) for net in (self.G, self.D)}
        adam: dict[str, Any] = {"lr": 0.001, "betas": (0.0, 0.99), "eps": 1e-8, "fused": True}
        self.optimisers = {net: torch.optim.Adam(net.parameters(), **adam) for net in (self.G, self.D)}
        torch.manual_seed(1)
        self.z = torch.randn([batch, 512])
        self.real_img = torch.rand([batch, 3, resolution, resolution]) * 2 - 1

    def phase(self, name: str) -> None:
        with self.variant.backend():
            if name == "EMA":
                gankern.ema_update(self.G_ema, self.G, 0.999)
                return
            net = self.D if name == "D" else self.G
            self.gradients[net].zero_()
            for loss in self._losses(name):
                loss.backward()
            gankern.sanitize_gradients(self.gradients[net])
            self.optimisers[net].step()

    def losses(self) -> dict[str, float]:
        """The losses of both networks before the first step."""
        found = {}
        with self.variant.backend():
            for name in ("D", "G"):
                torch.manual_seed(2)
                found[name] = sum(loss.item() for loss in self._losses(name))
        return found

    def _losses(self, name: str) -> Iterator[torch.Tensor]:
        self.G.requires_grad_(name == "G")
        self.D.requires_grad_(name == "D")
        return self._d_losses() if name == "D" else self._g_losses()

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

    def _generate(self, update_emas: bool) -> torch.Tensor:
        ws = self.G.mapping(self.z, update_emas=update_emas)
        ws = mix_styles(ws, self.G.mapping(torch.randn_like(self.z)), 0.9)
        return self.G.synthesis(ws)


def training(variant: Variant, resolution: int, batch: int) -> Training:
    """The networks of a variant and the options of its training, the same numbers for each."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"channel_base": CHANNEL_BASE, "channels_last": variant.layout == "channels_last"}
    options |= {"num_fp16_res": 99, "lowp_dtype": torch.bfloat16} if variant.precision == "bf16" else {}
    G, D = Generator(512, 0, 512, resolution, 3, **options), Discriminator(0, resolution, 3, **options)
    order = ("D", "ema", "G")
    return Training(G, D, TrainingOptions(batch, 1, 0.001, R1_GAMMA, 1, 0.0, 0, 0.9, 10, None, 1, 1, 1, order=order))


STYLEGAN = Iteration(
    "python -m bench.models.stylegan", __doc__, Run, {"D": 1, "EMA": 1, "G": 1}, VARIANTS, (64, 128), training
)

if __name__ == "__main__":
    sys.exit(main(STYLEGAN))
