"""The phases of a training step, each a few losses, one optimiser step, and an interval in iterations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gankern import path_length_penalty, r1_penalty, sanitize_gradients, wgan_gp_penalty
from gankern.nn import shared_spectral_norm

from .losses import LOSSES
from .options import TrainingOptions
from .regularisers import add_orthogonal_gradients, mix_styles
from .schedule import doublings
from .state import Generator, TrainingState


class Batch(NamedTuple):
    """One phase's inputs."""

    real_img: Tensor  # [N, C, H, W] in [-1, 1]
    real_c: Tensor  # [N, c_dim]
    z: Tensor  # [N, z_dim]
    c: Tensor  # [N, c_dim], labels of the images to generate


Losses = Callable[[TrainingState, TrainingOptions, Batch], Iterator[Tensor]]


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
    _check_networks(state, options)
    G = (state.G, state.G_opt, state.G_gradients)
    D = (state.D, state.D_opt, state.D_gradients)
    phases = {
        "G": [Phase("Gmain", g_main, *G, interval=1)],
        "D": [Phase("Dmain", d_joint if options.d_joint else d_main, *D, interval=1)],
        "ema": [],
    }
    if options.pl_interval > 1 and options.pl_weight:
        phases["G"].append(Phase("Greg", g_path_length, *G, interval=options.pl_interval))
    if options.r1_interval > 1 and options.r1_gamma:
        phases["D"].append(Phase("Dreg", d_r1, *D, interval=options.r1_interval))
    return [phase for part in options.order for phase in phases[part]]


def run_phase(
    phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, batch_gpu: int | None = None
) -> None:
    """Accumulates the gradients of the phase's losses, times its interval, and takes the optimiser's step.

    Args:
        phase: What to do.
        state: Changed in place.
        options: The run's options.
        batch: Inputs.
        batch_gpu: Images that go through the networks at once; None for all. The gradient is that of the whole batch,
            except for what images of one batch share: minibatch statistics, batch normalisation's too, the place where
            styles are mixed, and, without `sn_once`, the vectors of a spectral norm, which every pass renews.
    """
    for net in (state.G, state.D):
        net.requires_grad_(net is phase.net)
    phase.gradients.zero_()
    n = len(batch.z)
    with shared_spectral_norm(*([state.G, state.D] if options.sn_once else [])):
        for part in zip(*(tensor.split(batch_gpu or n) for tensor in batch), strict=True):
            for loss in phase.losses(state, options, Batch(*part)):
                (loss * (phase.interval * len(part[0]) / n)).backward()
    if options.ortho_strength:
        shared = getattr(phase.net, "shared", None)  # the embedding of the classes in G, which is left alone
        left_alone = set() if shared is None else set(shared.parameters())
        weights = (p for p in phase.net.parameters() if p not in left_alone)
        add_orthogonal_gradients(weights, options.ortho_strength)
    sanitize_gradients(phase.gradients)
    phase.opt.step()


def generate(
    state: TrainingState, options: TrainingOptions, z: Tensor, c: Tensor, update_emas: bool = False
) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] of the generator in training, and their latents: ws [N, num_ws, w_dim], else z."""
    if not hasattr(state.G, "mapping"):
        return state.G(z, c), z
    ws = state.G.mapping(z, c, update_emas=update_emas)
    if options.style_mixing_prob:
        other = state.G.mapping(torch.randn_like(z), c, update_emas=False)
        ws = mix_styles(ws, other, options.style_mixing_prob, layers_in_use(state.G))
    return state.G.synthesis(ws), ws


def layers_in_use(G: Generator) -> int:
    """How many of the ws a generator uses: two fewer for each resolution that it has not grown to.

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, section 2.
    """
    resolution = getattr(G, "resolution", G.img_resolution)
    return G.mapping.num_ws - 2 * doublings(resolution, G.img_resolution)


def score(state: TrainingState, options: TrainingOptions, img: Tensor, c: Tensor) -> tuple[Tensor, Tensor | float]:
    """Scores [N, 1] of images, and the weighted cross entropy [] of the class head, 0 without one.

    Source: Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017, equation 3.
    """
    if not options.class_weight:
        return state.D(img, c), 0.0
    scores, logits = state.D(img, c, return_logits=True)
    return scores, F.cross_entropy(logits, c) * options.class_weight


def g_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The generator's adversarial loss."""
    img, _ = generate(state, options, batch.z, batch.c)
    scores, class_loss = score(state, options, img, batch.c)
    loss = LOSSES[options.loss].g(scores)
    state.stats.add("Gmain", "Loss/G/loss", loss)
    if isinstance(class_loss, Tensor):
        state.stats.add("Gmain", "Loss/G/class", class_loss)
    yield loss.mean() + class_loss

    if options.pl_interval == 1 and options.pl_weight:
        yield from g_path_length(state, options, batch)


def g_path_length(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """Path length regularisation, on half a batch."""
    half = max(len(batch.z) // 2, 1)
    img, ws = generate(state, options, batch.z[:half], batch.c[:half])
    penalty = path_length_penalty(img, ws, state.pl_mean)
    state.stats.add("Greg", "Loss/pl_penalty", penalty)
    state.stats.add("Greg", "Loss/G/reg", penalty * options.pl_weight)
    yield penalty.mean() * options.pl_weight


def d_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The discriminator's losses on generated and on real images, and the penalties that belong to every step."""
    adversarial = LOSSES[options.loss]
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    fake_scores, class_loss = score(state, options, fake_img, batch.c)
    fake_loss = adversarial.d_fake(fake_scores).mean()
    yield fake_loss + class_loss

    real_scores, class_loss, r1 = score_reals(state, options, batch)
    real_loss = adversarial.d_real(real_scores).mean()
    add_d_stats(state, fake_scores, real_scores, fake_loss.detach() + real_loss)
    if isinstance(class_loss, Tensor):
        state.stats.add("Dmain", "Loss/D/class", class_loss)
    if options.drift_weight:
        real_loss = real_loss + real_scores.square().mean() * options.drift_weight
    yield real_loss + class_loss + r1

    if options.gp_weight:
        penalty = wgan_gp_penalty(state.D, batch.real_img, fake_img, batch.real_c, target=options.gp_target)
        state.stats.add("Dmain", "Loss/gp_penalty", penalty)
        yield penalty.mean() * (options.gp_weight / options.gp_target**2)


def d_joint(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The adversarial losses from one pass of the discriminator, over generated and real images in one batch."""
    adversarial = LOSSES[options.loss]
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    scores = state.D(torch.cat([fake_img, batch.real_img]), torch.cat([batch.c, batch.real_c]))  # [2N, 1]
    fake_scores, real_scores = scores.chunk(2)
    loss = adversarial.d_fake(fake_scores).mean() + adversarial.d_real(real_scores).mean()
    add_d_stats(state, fake_scores, real_scores, loss)
    yield loss


def add_d_stats(state: TrainingState, fake_scores: Tensor, real_scores: Tensor, loss: Tensor) -> None:
    state.stats.add("Dmain", "Loss/scores/fake", fake_scores)
    state.stats.add("Dmain", "Loss/scores/real", real_scores)
    state.stats.add("Dmain", "Loss/signs/real", real_scores.sign())
    state.stats.add("Dmain", "Loss/D/loss", loss)


def score_reals(
    state: TrainingState, options: TrainingOptions, batch: Batch
) -> tuple[Tensor, Tensor | float, Tensor | float]:
    """What `score` gives for the real images, and the weighted R1 [] of the same pass if every step has it, else 0."""
    if options.r1_interval != 1 or not options.r1_gamma:
        return *score(state, options, batch.real_img, batch.real_c), 0.0
    found = []

    def D(img: Tensor, c: Tensor) -> Tensor:
        found.append(score(state, options, img, c))
        return found[0][0]

    penalty = r1_penalty(D, batch.real_img, batch.real_c)
    state.stats.add("Dmain", "Loss/r1_penalty", penalty)
    return *found[0], penalty.mean() * (options.r1_gamma / 2)


def d_r1(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """R1 on real images, in a step of its own."""
    penalty = r1_penalty(state.D, batch.real_img, batch.real_c)
    state.stats.add("Dreg", "Loss/r1_penalty", penalty)
    state.stats.add("Dreg", "Loss/D/reg", penalty * (options.r1_gamma / 2))
    yield penalty.mean() * (options.r1_gamma / 2)


def _check_networks(state: TrainingState, options: TrainingOptions) -> None:
    if not hasattr(state.G, "mapping"):
        for name in ("style_mixing_prob", "pl_weight"):
            if getattr(options, name):
                expected = "be 0 for a generator without a mapping network"
                raise ValueError(f"training options: {name} must {expected}, got {getattr(options, name)}")
    if options.d_joint:
        for name in ("gp_weight", "drift_weight", "class_weight"):
            if getattr(options, name):
                raise ValueError(f"training options: {name} must be 0 with d_joint, got {getattr(options, name)}")
        if options.r1_interval == 1 and options.r1_gamma:
            raise ValueError("training options: r1_interval must not be 1 with d_joint, got 1")
