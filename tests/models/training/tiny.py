"""The smallest networks that have what the training loop asks of a generator and a discriminator."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from gankern.models.training.options import TrainingOptions
from gankern.models.training.state import TrainingState, new_state


class TinyMapping(nn.Module):
    w_avg: Tensor
    num_ws = 3

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4 + 10, 6)
        self.register_buffer("w_avg", torch.zeros(6))

    def forward(self, z: Tensor, c: Tensor, truncation_psi: float = 1, update_emas: bool = False) -> Tensor:
        w = self.fc(torch.cat([z, c], 1)).tanh()  # [N, 6]
        if update_emas:
            self.w_avg.lerp_(w.detach().mean(0), 0.01)
        return w[:, None].repeat(1, 3, 1)  # [N, 3, 6]


class TinySynthesis(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16) for _ in range(3)])
        self.noise_strength = nn.Parameter(torch.full([], 0.1))
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, ws: Tensor, noise_mode: str = "random") -> Tensor:
        x = sum((layer(w).tanh() for layer, w in zip(self.layers, ws.unbind(1), strict=True)), torch.zeros([]))
        x = x.reshape(-1, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)  # [N, 1, 8, 8]
        if noise_mode == "random":
            x = x + torch.randn_like(x) * self.noise_strength
        return self.conv(x).tanh()


class TinyGenerator(nn.Module):
    z_dim, img_resolution = 4, 8

    def __init__(self) -> None:
        super().__init__()
        self.mapping = TinyMapping()
        self.synthesis = TinySynthesis()

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z, c))


class TinyDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.out = nn.Linear(4 * 16 + 10, 1)

    def forward(self, img: Tensor, c: Tensor) -> Tensor:
        return self.out(torch.cat([nn.functional.softplus(self.conv(img)).flatten(1), c], 1))  # [N, 1]


OPTIONS = TrainingOptions(
    batch=8,
    kimg=0.16,
    lr=0.01,
    r1_gamma=1.0,
    r1_interval=4,
    pl_weight=2.0,
    pl_interval=3,
    style_mixing_prob=0.9,
    ema_kimg=0.1,
    ema_rampup=0.5,
    tick_kimg=0.04,
    image_snap=1,
    snap=2,
)
OFTEN = replace(OPTIONS, snap=1)  # a snapshot at the end of each tick


def tiny_state(options: TrainingOptions = OPTIONS) -> TrainingState:
    """Networks and optimisers before the first step, the same ones each time."""
    torch.manual_seed(1)
    return new_state(TinyGenerator(), TinyDiscriminator(), options, torch.device("cpu"))
