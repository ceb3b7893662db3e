"""`python -m bench.models.stylegan2 --resolution 64`: one training iteration of StyleGAN2, and where its time goes.

An iteration is Gmain + Dmain + Greg / 4 + Dreg / 16, with gradients, sanitising and Adam, and the average of the
generator. Channels are those of channel_base 16384.
"""

from __future__ import annotations

import sys
from typing import Any

import torch

import gankern
from bench.models.iteration import VARIANTS, Iteration, Training, Variant, main
from gankern.models.stylegan2 import Discriminator, Generator
from gankern.models.training.objectives import Batch
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import Phase, make_phases, run_phase
from gankern.models.training.state import TrainingState, new_state


class Run:
    """The networks and optimisers of one variant, the same numbers in each."""

    def __init__(self, variant: Variant, resolution: int, batch: int) -> None:
        G, D, options = training(variant, resolution, batch)
        self.variant, self.options = variant, options
        self.state: TrainingState = new_state(G, D, options, torch.device("cpu"))
        self.phases = {phase.name: phase for phase in make_phases(self.state, options)}
        torch.manual_seed(1)
        empty = torch.zeros([batch, 0])
        real_img = torch.rand([batch, 3, resolution, resolution]) * 2 - 1
        self.batch = Batch(real_img, empty, torch.randn([batch, 512]), empty)

    def phase(self, name: str) -> None:
        with self.variant.backend():
            if name == "EMA":
                gankern.ema_update(self.state.G_ema, self.state.G, 0.999)
            else:
                run_phase(self.phases[name], self.state, self.options, self.batch)

    def losses(self) -> dict[str, float]:
        """The losses of all phases before the first step."""
        found = {}
        with self.variant.backend():
            for phase in self.phases.values():
                torch.manual_seed(2)
                self.state.pl_mean.zero_()
                found[phase.name] = sum(loss.item() for loss in self._of(phase))
        return found

    def _of(self, phase: Phase) -> Any:
        for net in (self.state.G, self.state.D):
            net.requires_grad_(net is phase.net)
        return phase.losses(self.state, self.options, self.batch)


def training(variant: Variant, resolution: int, batch: int) -> Training:
    """The networks of a variant and the options of its training, the same numbers for each."""
    torch.manual_seed(0)
    lowp = {"num_fp16_res": 99, "lowp_dtype": torch.bfloat16} if variant.precision == "bf16" else {}
    lowp |= {"conv_clamp": 256.0, "channels_last": variant.layout == "channels_last", "channel_base": 16384}
    G = Generator(512, 0, 512, resolution, 3, **lowp)
    D = Discriminator(0, resolution, 3, **lowp)
    return Training(G, D, TrainingOptions(batch, 1, 0.0025, 1.0, 16, 2.0, 4, 0.9, 10, None, 1, 1, 1))


STYLEGAN2 = Iteration(
    "python -m bench.models.stylegan2",
    __doc__,
    Run,
    {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16, "EMA": 1},
    VARIANTS,
    (64, 128, 256),
    training,
)

if __name__ == "__main__":
    sys.exit(main(STYLEGAN2))
