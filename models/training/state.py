"""All that changes during a run: the networks, the optimisers, the averages, the random states and the position."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .optimiser import flatten_gradients, lazy_adam
from .options import TrainingOptions
from .stats import Stats

Generator = Any  # an nn.Module with z_dim, mapping(z, c, update_emas=...) to ws, and synthesis(ws, noise_mode=...)
Discriminator = Any  # an nn.Module, D(img, c) to scores [N, 1]

NETWORKS = ("G", "D", "G_ema", "G_opt", "D_opt")


@dataclass
class TrainingState:
    """What a snapshot holds. `cur_nimg`, the number of real images seen, is also the position in the data."""

    G: Generator
    D: Discriminator
    G_ema: Generator
    G_opt: torch.optim.Optimizer
    D_opt: torch.optim.Optimizer
    G_gradients: Tensor  # all of G's gradients [number of parameters]
    D_gradients: Tensor
    pl_mean: Tensor  # []
    device: torch.device
    cur_nimg: int = 0
    stats: Stats = field(default_factory=Stats)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers only; with the device's random states, so that a resumed run is the same."""
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in NETWORKS}
        state |= {"pl_mean": self.pl_mean, "cur_nimg": self.cur_nimg, "stats": self.stats.state_dict()}
        state["rng_cpu"] = torch.get_rng_state()
        state["rng_cuda"] = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, in place."""
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        self.pl_mean.copy_(state["pl_mean"])
        self.cur_nimg = state["cur_nimg"]
        self.stats.load_state_dict(state["stats"], self.device)
        torch.set_rng_state(state["rng_cpu"])
        if self.device.type == "cuda" and state["rng_cuda"] is not None:
            torch.cuda.set_rng_state(state["rng_cuda"], self.device)


def new_state(G: Generator, D: Discriminator, options: TrainingOptions, device: torch.device) -> TrainingState:
    """The state before the first step: networks on the device, averages and optimisers fresh.

    Args:
        G: Generator.
        D: Discriminator.
        options: The run's options; seeds the random numbers.
        device: Where to train.
    """
    for net in (G, D):
        net.to(device).train()
    betas = (options.beta1, options.beta2)
    torch.manual_seed(options.seed)
    return TrainingState(
        G=G,
        D=D,
        G_ema=copy.deepcopy(G).eval().requires_grad_(False),
        G_opt=lazy_adam(G, options.lr, betas, options.pl_interval),
        D_opt=lazy_adam(D, options.lr, betas, options.r1_interval),
        G_gradients=flatten_gradients(G),
        D_gradients=flatten_gradients(D),
        pl_mean=torch.zeros([], device=device),
        device=device,
    )
