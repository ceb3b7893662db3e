"""The smallest networks that grow, from 4x4 to 16x16: a generator without styles, and a discriminator with classes."""

from dataclasses import replace

import torch
from tiny import OPTIONS
from torch import Tensor, nn

import gankern
from gankern.models.training.objectives import Batch
from gankern.models.training.optimiser import flatten_gradients
from gankern.models.training.options import Growth, TrainingOptions
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.schedule import stage
from gankern.models.training.state import TrainingState, new_state

LAST, WIDTH = 16, 6


class Growing(nn.Module):
    alpha: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.img_resolution = self.resolution = LAST
        self.fading = False
        self.register_buffer("alpha", torch.ones([]))

    def grow(self, resolution: int, fading: bool) -> None:
        self.resolution, self.fading = resolution, fading


class GrowingGenerator(Growing):
    z_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4 + 10, WIDTH * 16)
        self.convs = nn.ModuleDict({str(r): nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for r in (8, 16)})
        self.torgb = nn.ModuleDict({str(r): nn.Conv2d(WIDTH, 1, 1) for r in (4, 8, 16)})

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = self.fc(torch.cat([z, c], 1)).tanh().reshape(-1, WIDTH, 4, 4)
        old = x
        for r in (8, 16):
            if r <= self.resolution:
                old = x
                x = self.convs[str(r)](x.repeat_interleave(2, 2).repeat_interleave(2, 3)).tanh()  # [N, WIDTH, r, r]
        img = self.torgb[str(self.resolution)](x)
        return gankern.fade(img, self.torgb[str(self.resolution // 2)](old), self.alpha) if self.fading else img


class GrowingDiscriminator(Growing):
    def __init__(self) -> None:
        super().__init__()
        self.fromrgb = nn.ModuleDict({str(r): nn.Conv2d(1, WIDTH, 1) for r in (4, 8, 16)})
        self.convs = nn.ModuleDict({str(r): nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for r in (8, 16)})
        self.out = nn.Linear(WIDTH * 16, 1 + 10)

    def forward(self, img: Tensor, c: Tensor, return_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        x = self.fromrgb[str(self.resolution)](img)
        for r in (16, 8):
            if r <= self.resolution:
                x = nn.functional.avg_pool2d(nn.functional.softplus(self.convs[str(r)](x)), 2)
            if r == self.resolution and self.fading:
                old = self.fromrgb[str(r // 2)](nn.functional.avg_pool2d(img, 2))
                x = gankern.fade(x, old, self.alpha)
        out = self.out(x.flatten(1))  # [N, 11]
        return (out[:, :1], out[:, 1:]) if return_logits else out[:, :1]


# 4x4 trains to image 48, 8x8 fades in to 96 and trains to 144, 16x16 fades in to 192. The schedule is read at 0,
# 32, 64 (8x8 fades in), 96 (trains), 128, 160 (16x16 fades in), 176, 192 (trains), 208, 224.
GROWTH = Growth(4, LAST, 0.048, 0.048, batch={4: 16, 8: 16, 16: 8}, lr={16: 0.02}, repeats=2)

PROGAN = replace(
    OPTIONS,
    batch=8,
    kimg=0.24,
    image_snap=1000,
    r1_gamma=0.0,
    r1_interval=0,
    pl_weight=0.0,
    pl_interval=0,
    style_mixing_prob=0.0,
    loss="wgan",
    gp_weight=10.0,
    drift_weight=0.001,
    class_weight=1.0,
    order=("D", "ema", "G"),
    ema_kimg=None,
    ema_rampup=None,
    ema_beta=0.9,
    growth=GROWTH,
)


def growing_state(options: TrainingOptions = PROGAN) -> TrainingState:
    """Networks and optimisers before the first step, the same ones each time."""
    torch.manual_seed(1)
    return new_state(GrowingGenerator(), GrowingDiscriminator(), options, torch.device("cpu"))


def gradients_of(
    options: TrainingOptions, name: str, batch_gpu: int | None = None, seed: int = 3
) -> list[torch.Tensor]:
    """The gradients that one phase of the growing networks leaves, in float64."""
    state = growing_state(replace(options, batch=8))
    for net in (state.G, state.D):
        net.double()
    state.G_gradients, state.D_gradients = flatten_gradients(state.G), flatten_gradients(state.D)
    state.enter(stage(options, 176), options)
    found = next(phase for phase in make_phases(state, options) if phase.name == name)
    torch.manual_seed(seed)
    run_phase(found, state, options, growing_batch(), batch_gpu)
    return [param.grad.clone() for param in found.net.parameters()]


def growing_batch() -> Batch:
    generator = torch.Generator().manual_seed(2)
    c = torch.eye(10, dtype=torch.float64)[torch.randint(10, (16,), generator=generator)]
    img = torch.rand(8, 1, 16, 16, dtype=torch.float64, generator=generator) * 2 - 1
    return Batch(img, c[:8], torch.randn(8, 4, dtype=torch.float64, generator=generator), c[8:])
