"""The phases of a training step, each a few losses, one optimiser step, and an interval in iterations."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gankern import sanitize_gradients
from gankern.nn import shared_spectral_norm
from gankern.nn.spectral_norm import NORMALISER

from .distributed import average_over_ranks
from .losses import RELATIVISTIC_LOSSES
from .objectives import Batch, Losses, d_joint, d_main, d_reg, d_relativistic, g_main, g_path_length
from .options import TrainingOptions
from .regularisers import add_orthogonal_gradients, clip_weights
from .state import Discriminator, Generator, TrainingState
from .stats import FINITE


@dataclass(frozen=True)
class Phase:
    """What a step does to one network, every `interval` of its steps."""

    name: str
    losses: Losses  # yields scalars; each is differentiated, and its graph freed, before the next is computed
    net: nn.Module
    opt: torch.optim.Optimizer
    gradients: Tensor  # all of the network's gradients
    interval: int

    @property
    def part(self) -> str:
        """`G` or `D`, the network that it trains."""
        return self.name[0]


def make_phases(state: TrainingState, options: TrainingOptions) -> list[Phase]:
    """The phases of a run, in their order within an iteration.

    Raises:
        ValueError: An option needs a network that G or D does not have.
    """
    check_networks(state.G, state.D, options)
    G = (state.G, state.G_opt, state.G_gradients)
    D = (state.D, state.D_opt, state.D_gradients)
    relativistic = options.loss in RELATIVISTIC_LOSSES
    d_losses = d_joint if options.d_joint else d_relativistic if relativistic else d_main
    phases = {
        "G": [Phase("Gmain", g_main, *G, interval=1)],
        "D": [Phase("Dmain", d_losses, *D, interval=1)],
        "ema": [],
    }
    if options.pl_interval > 1 and options.pl_weight:
        phases["G"].append(Phase("Greg", g_path_length, *G, interval=options.pl_interval))
    if options.r1_interval > 1 and (options.r1_gamma or options.r2_gamma):
        phases["D"].append(Phase("Dreg", d_reg, *D, interval=options.r1_interval))
    return [phase for part in options.order for phase in phases[part]]


def run_phase(
    phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, batch_gpu: int | None = None
) -> None:
    """`take_step`, or the replay of its graph where phases are captured."""
    (state.captured or take_step)(phase, state, options, batch, batch_gpu)


def take_step(
    phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, batch_gpu: int | None = None
) -> None:
    """Accumulates the gradients of the phase's losses, times its interval, and takes the optimiser's step.

    Args:
        phase: What to do.
        state: Changed in place.
        options: The run's options.
        batch: Inputs.
        batch_gpu: Images that go through the networks at once; None for all. The gradient is that of the whole batch,
            except for what images of one batch share: minibatch statistics, batch normalisation's too, the means of
            `ragan`, the place where styles are mixed, and, without `sn_once`, the vectors of a spectral norm, which
            every pass renews.
    """
    for net in (state.G, state.D):
        net.requires_grad_(net is phase.net)
    phase.gradients.zero_()
    n = len(batch.z)
    with shared_spectral_norm(*([state.G, state.D] if options.sn_once else [])):
        for part in zip(*(tensor.split(batch_gpu or n) for tensor in batch), strict=True):
            (state.compiled or accumulate_gradients)(phase, state, options, Batch(*part), len(part[0]) / n)
    average_over_ranks(phase.gradients, state.G, state.D)
    if options.ortho_strength:
        shared = getattr(phase.net, "shared", None)  # the embedding of the classes in G, which is left alone
        left_alone = set() if shared is None else set(shared.parameters())
        weights = (p for p in phase.net.parameters() if p not in left_alone)
        add_orthogonal_gradients(weights, options.ortho_strength)
    state.stats.add(phase.name, f"{FINITE}{phase.name}", phase.gradients.sum().isfinite())  # a share of the steps
    sanitize_gradients(phase.gradients)
    phase.opt.step()
    if options.d_clip and phase.part == "D":
        clip_weights(phase.net, options.d_clip)


def accumulate_gradients(
    phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, share: float
) -> None:
    """Adds the gradients of a phase's losses to those that its network has.

    Args:
        phase: What to differentiate, one loss after the other.
        state: Of the run; averages and statistics change in place.
        options: The run's options.
        batch: Inputs.
        share: Of the whole batch, in (0, 1].
    """
    for loss in phase.losses(state, options, batch):
        (loss * (phase.interval * share)).backward()


def check_networks(G: Generator, D: Discriminator, options: TrainingOptions) -> None:
    """Raises ValueError if an option needs something that the networks do not have."""
    if not hasattr(G, "mapping"):
        for name in ("style_mixing_prob", "pl_weight"):
            if getattr(options, name):
                expected = "be 0 for a generator without a mapping network"
                raise ValueError(f"training options: {name} must {expected}, got {getattr(options, name)}")
    if options.d_joint and options.class_weight:
        raise ValueError(f"training options: class_weight must be 0 with d_joint, got {options.class_weight}")
    if options.d_clip and NORMALISER in D.__dict__:
        expected = "be 0 for a discriminator with spectral norm, which bounds it already"
        raise ValueError(f"training options: d_clip must {expected}, got {options.d_clip}")
