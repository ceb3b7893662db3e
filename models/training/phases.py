"""The phases of a training step, each a few losses, one optimiser step, and an interval in iterations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gankern import path_length_penalty, r1_penalty, sanitize_gradients

from .losses import logistic_d_fake, logistic_d_real, nonsaturating_g
from .options import TrainingOptions
from .regularisers import mix_styles
from .state import TrainingState


class Batch(NamedTuple):
    """One phase's inputs."""

    real_img: Tensor  # [N, C, H, W] in [-1, 1]
    real_c: Tensor  # [N, c_dim]
    z: Tensor  # [N, z_dim]
    c: Tensor  # [N, c_dim], labels of the images to generate


Losses = Callable[[TrainingState, TrainingOptions, Batch], Iterator[Tensor]]


@dataclass(frozen=True)
class Phase:
    """What a step does to one network, every `interval` iterations."""

    name: str
    losses: Losses  # yields scalars; each is differentiated, and its graph freed, before the next is computed
    net: nn.Module
    opt: torch.optim.Optimizer
    gradients: Tensor  # all of the network's gradients
    interval: int


def make_phases(state: TrainingState, options: TrainingOptions) -> list[Phase]:
    """The phases of a run, in their order within an iteration."""
    G = (state.G, state.G_opt, state.G_gradients)
    D = (state.D, state.D_opt, state.D_gradients)
    phases = [Phase("Gmain", g_main, *G, interval=1)]
    if options.pl_interval and options.pl_weight:
        phases.append(Phase("Greg", g_path_length, *G, interval=options.pl_interval))
    phases.append(Phase("Dmain", d_main, *D, interval=1))
    if options.r1_interval and options.r1_gamma:
        phases.append(Phase("Dreg", d_r1, *D, interval=options.r1_interval))
    return phases


def run_phase(phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch) -> None:
    """Accumulates the gradients of the phase's losses, times its interval, and takes the optimiser's step."""
    for net in (state.G, state.D):
        net.requires_grad_(net is phase.net)
    phase.gradients.zero_()
    for loss in phase.losses(state, options, batch):
        (loss * phase.interval).backward()
    sanitize_gradients(phase.gradients)
    phase.opt.step()


def generate(
    state: TrainingState, options: TrainingOptions, z: Tensor, c: Tensor, update_emas: bool = False
) -> tuple[Tensor, Tensor]:
    """Images [N, C, H, W] of the generator in training, and their latents ws [N, num_ws, w_dim]."""
    ws = state.G.mapping(z, c, update_emas=update_emas)
    if options.style_mixing_prob:
        ws = mix_styles(ws, state.G.mapping(torch.randn_like(z), c, update_emas=False), options.style_mixing_prob)
    return state.G.synthesis(ws), ws


def g_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The generator's adversarial loss."""
    img, _ = generate(state, options, batch.z, batch.c)
    scores = state.D(img, batch.c)
    loss = nonsaturating_g(scores)
    state.stats.add("Gmain", "Loss/G/loss", loss)
    yield loss.mean()


def g_path_length(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """Path length regularisation, on half a batch."""
    half = max(len(batch.z) // 2, 1)
    img, ws = generate(state, options, batch.z[:half], batch.c[:half])
    penalty = path_length_penalty(img, ws, state.pl_mean)
    state.stats.add("Greg", "Loss/pl_penalty", penalty)
    state.stats.add("Greg", "Loss/G/reg", penalty * options.pl_weight)
    yield penalty.mean() * options.pl_weight


def d_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The discriminator's adversarial losses, on generated and on real images."""
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    fake_scores = state.D(fake_img, batch.c)
    fake_loss = logistic_d_fake(fake_scores).mean()
    state.stats.add("Dmain", "Loss/scores/fake", fake_scores)
    yield fake_loss

    real_scores = state.D(batch.real_img, batch.real_c)
    real_loss = logistic_d_real(real_scores).mean()
    state.stats.add("Dmain", "Loss/scores/real", real_scores)
    state.stats.add("Dmain", "Loss/signs/real", real_scores.sign())
    state.stats.add("Dmain", "Loss/D/loss", fake_loss.detach() + real_loss)
    yield real_loss


def d_r1(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """R1 on real images."""
    penalty = r1_penalty(state.D, batch.real_img, batch.real_c)
    state.stats.add("Dreg", "Loss/r1_penalty", penalty)
    state.stats.add("Dreg", "Loss/D/reg", penalty * (options.r1_gamma / 2))
    yield penalty.mean() * (options.r1_gamma / 2)
