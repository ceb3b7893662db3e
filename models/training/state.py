"""All that changes during a run: the networks, the optimisers, the averages, the random states and the position."""

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .augment import new_augment
from .distributed import check_ranks_agree, prepare_networks
from .freeze import freeze_layers
from .optimiser import flatten_gradients, forget_moments, lazy_adam, lazy_ratio, make_capturable, portable_state, set_lr
from .options import TrainingOptions
from .random_states import RandomStates
from .schedule import Stage, stage
from .stats import Stats
from .timing import PhaseTimer

# nn.Modules. G(z, c) gives images; it has z_dim and, if there are styles, mapping(z, c, update_emas=...) to ws and
# synthesis(ws, noise_mode=...). D(img, c) gives scores [N, 1]; with return_logits=True also those of its class head.
# layers_from_image() are D's layers that see an image, in Freeze-D's order. Networks that can grow have
# grow(resolution, fading) and the buffer alpha.
Generator = Any
Discriminator = Any

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
    random: RandomStates
    cur_nimg: int = 0
    grown: tuple[int, bool] | None = None  # resolution, and whether it fades in; None where networks do not grow
    stats: Stats = field(default_factory=Stats)
    augment: nn.Module | None = None  # what D's images go through
    rollbacks: int = 0  # how often the run went back to a snapshot because of a NaN; changes the order of the data
    captured: Any = None  # capture.CapturedPhases where phases are replayed as CUDA graphs; in no snapshot
    compiled: Any = None  # compiling.CompiledGradients where losses and gradients are compiled; likewise
    timer: PhaseTimer = field(init=False)  # likewise

    def __post_init__(self) -> None:
        self.timer = PhaseTimer(self.device)

    def enter(self, now: Stage, options: TrainingOptions) -> None:
        """Brings networks and optimisers to a stage of the schedule; does nothing where they do not grow.

        When a fade begins or ends the optimisers forget their moments, which also keeps the layers at rest there.

        Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
            section 2; the optimisers: the training published with it.
        """
        if now.resolution is None:
            return
        if self.grown != (now.resolution, now.fading):
            self._grow((now.resolution, now.fading))
            for opt in (self.G_opt, self.D_opt):
                forget_moments(opt)
        for net in (self.G, self.D, self.G_ema):
            net.alpha.fill_(now.alpha)
        d_lr = now.lr if options.d_lr is None else now.lr * options.d_lr / options.lr
        set_lr(self.G_opt, now.lr * lazy_ratio(options.pl_interval))
        set_lr(self.D_opt, d_lr * lazy_ratio(options.r1_interval))

    def _grow(self, grown: tuple[int, bool]) -> None:
        self.grown = grown
        for net in (self.G, self.D, self.G_ema):
            net.grow(*grown)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain containers only; with the random states, so that a resumed run is the same.

        Every rank must call it.

        Raises:
            ValueError: The ranks' networks differ.
        """
        check_ranks_agree(self)
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in NETWORKS}
        state |= {"G_opt": portable_state(self.G_opt), "D_opt": portable_state(self.D_opt)}
        state |= {"pl_mean": self.pl_mean, "cur_nimg": self.cur_nimg, "stats": self.stats.state_dict()}
        state["grown"] = self.grown
        state["augment"] = None if self.augment is None else self.augment.state_dict()
        state["rollbacks"] = self.rollbacks
        return state | self.random.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, in place."""
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        if self.captured is not None:  # graphs hold the memory of the optimisers' state before
            self.captured.forget()
            for opt in (self.G_opt, self.D_opt):
                make_capturable(opt)
        self.pl_mean.copy_(state["pl_mean"])
        self.cur_nimg = state["cur_nimg"]
        if state.get("grown") is not None:  # snapshots from before networks grew say nothing
            self._grow(state["grown"])
        if self.augment is not None:
            self.augment.load_state_dict(state["augment"])
        self.stats.load_state_dict(state["stats"], self.device)
        self.rollbacks = state.get("rollbacks", 0)
        self.random.load_state_dict(state, self.cur_nimg)


def new_state(G: Generator, D: Discriminator, options: TrainingOptions, device: torch.device) -> TrainingState:
    """The state before the first step: networks on the device, averages and optimisers fresh.

    Args:
        G: Generator.
        D: Discriminator.
        options: The run's options; seeds the random numbers.
        device: Where to train.

    Raises:
        ValueError: The options ask for growth, and the networks cannot grow; or to freeze more layers than D has; or
            the ranks cannot share the batch.
    """
    for net in (G, D):
        if options.growth is not None and not hasattr(net, "grow"):
            raise ValueError(f"training options: growth needs networks that can grow, got {type(net).__name__}")
        net.to(device).train()
    if options.freeze_d:
        freeze_layers(D, options.freeze_d)
    prepare_networks(G, D, options)
    betas = (options.beta1, options.beta2)
    torch.manual_seed(options.seed)
    state = TrainingState(
        G=G,
        D=D,
        G_ema=copy.deepcopy(G).eval().requires_grad_(False),
        G_opt=lazy_adam(G, options.lr, betas, options.pl_interval, options.adam_eps),
        D_opt=lazy_adam(D, options.d_lr or options.lr, betas, options.r1_interval, options.adam_eps),
        G_gradients=flatten_gradients(G),
        D_gradients=flatten_gradients(D),
        pl_mean=torch.zeros([], device=device),
        device=device,
        random=RandomStates(options.seed, device),
        augment=new_augment(options, device),
    )
    state.enter(stage(options, 0), options)
    return state
