"""What each phase minimises: generators of losses, each differentiated before the next is computed."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gankern import path_length_penalty, r1_penalty, r2_penalty, wgan_gp_penalty

from ..ranks import everyone
from .augment import AdaptiveAugmentPipe
from .losses import LOSSES, RELATIVISTIC_LOSSES
from .options import TrainingOptions
from .regularisers import mix_styles
from .schedule import doublings
from .state import Generator, TrainingState


class Batch(NamedTuple):
    """One phase's inputs."""

    real_img: Tensor  # [N, C, H, W] in [-1, 1]
    real_c: Tensor  # [N, c_dim]
    z: Tensor  # [N, z_dim]
    c: Tensor  # [N, c_dim], labels of the images to generate


Losses = Callable[[TrainingState, TrainingOptions, Batch], Iterator[Tensor]]


PENALTY_STATS = {"R1": "Loss/r1_penalty", "R2": "Loss/r2_penalty"}


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


def discriminate(state: TrainingState, img: Tensor, c: Tensor, **kwargs: bool) -> Any:
    """What D says of images [N, C, H, W] with labels c [N, c_dim]; every loss and penalty looks through here."""
    if state.augment is not None:
        img = state.augment(img)
    return state.D(img, c, **kwargs)


def score(state: TrainingState, options: TrainingOptions, img: Tensor, c: Tensor) -> tuple[Tensor, Tensor | float]:
    """Scores [N, 1] of images, and the weighted cross entropy [] of the class head, 0 without one.

    Source: Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017, equation 3.
    """
    if not options.class_weight:
        return discriminate(state, img, c), 0.0
    scores, logits = discriminate(state, img, c, return_logits=True)
    return scores, F.cross_entropy(logits, c) * options.class_weight


def g_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The generator's adversarial loss."""
    img, _ = generate(state, options, batch.z, batch.c)
    scores, class_loss = score(state, options, img, batch.c)
    if options.loss in RELATIVISTIC_LOSSES:
        real_scores = discriminate(state, batch.real_img, batch.real_c)  # [N, 1]
        loss = RELATIVISTIC_LOSSES[options.loss](scores, real_scores)
    else:
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
    penalty = path_length_penalty(img, ws, state.pl_mean, process_group=everyone())
    state.stats.add("Greg", "Loss/pl_penalty", penalty)
    state.stats.add("Greg", "Loss/G/reg", penalty * options.pl_weight)
    yield penalty.mean() * options.pl_weight


def d_main(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The discriminator's losses on generated and on real images, and the penalties that belong to every step."""
    adversarial = LOSSES[options.loss]
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    fake_scores, class_loss, r2 = score_with_penalty(state, options, "R2", fake_img, batch.c)
    fake_loss = adversarial.d_fake(fake_scores).mean()
    yield fake_loss + class_loss + r2

    real_scores, class_loss, r1 = score_with_penalty(state, options, "R1", batch.real_img, batch.real_c)
    real_loss = adversarial.d_real(real_scores).mean()
    add_d_stats(state, fake_scores, real_scores, fake_loss.detach() + real_loss, class_loss)
    yield real_loss + drift(options, real_scores) + class_loss + r1
    yield from gradient_penalty(state, options, batch, fake_img)


def d_relativistic(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """`d_main` for losses that compare real with generated images: one loss of both passes."""
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    fake_scores, fake_class, r2 = score_with_penalty(state, options, "R2", fake_img, batch.c)
    real_scores, real_class, r1 = score_with_penalty(state, options, "R1", batch.real_img, batch.real_c)
    loss = RELATIVISTIC_LOSSES[options.loss](real_scores, fake_scores).mean()
    add_d_stats(state, fake_scores, real_scores, loss, real_class)
    yield loss + drift(options, real_scores) + fake_class + real_class + r1 + r2
    yield from gradient_penalty(state, options, batch, fake_img)


def d_joint(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """The adversarial losses from one pass of the discriminator, over generated and real images in one batch."""
    fake_img, _ = generate(state, options, batch.z, batch.c, update_emas=True)
    scores = discriminate(state, torch.cat([fake_img, batch.real_img]), torch.cat([batch.c, batch.real_c]))  # [2N, 1]
    fake_scores, real_scores = scores.chunk(2)
    if options.loss in RELATIVISTIC_LOSSES:
        loss = RELATIVISTIC_LOSSES[options.loss](real_scores, fake_scores).mean()
    else:
        adversarial = LOSSES[options.loss]
        loss = adversarial.d_fake(fake_scores).mean() + adversarial.d_real(real_scores).mean()
    add_d_stats(state, fake_scores, real_scores, loss)
    yield loss + drift(options, real_scores)
    if options.r1_interval == 1:
        yield from regularise(state, options, "Dmain", batch, fake_img)
    yield from gradient_penalty(state, options, batch, fake_img)


def add_d_stats(
    state: TrainingState, fake_scores: Tensor, real_scores: Tensor, loss: Tensor, class_loss: Tensor | float = 0.0
) -> None:
    state.stats.add("Dmain", "Loss/scores/fake", fake_scores)
    state.stats.add("Dmain", "Loss/scores/real", real_scores)
    state.stats.add("Dmain", "Loss/signs/real", real_scores.sign())
    if isinstance(state.augment, AdaptiveAugmentPipe):
        state.augment.observe(real_scores)
    state.stats.add("Dmain", "Loss/D/loss", loss)
    if isinstance(class_loss, Tensor):
        state.stats.add("Dmain", "Loss/D/class", class_loss)


def d_reg(state: TrainingState, options: TrainingOptions, batch: Batch) -> Iterator[Tensor]:
    """R1 and R2, in a step of their own."""
    fake_img = generate(state, options, batch.z, batch.c)[0] if options.r2_gamma else None
    yield from regularise(state, options, "Dreg", batch, fake_img)


def regularise(
    state: TrainingState, options: TrainingOptions, phase: str, batch: Batch, fake_img: Tensor | None
) -> Iterator[Tensor]:
    """R1 on the real images and R2 on the generated ones, in passes of their own."""
    total = torch.zeros([], device=batch.z.device)
    for name, img, c in (("R1", batch.real_img, batch.real_c), ("R2", fake_img, batch.c)):
        penalty_of, gamma = penalty_named(options, name)
        if img is not None and gamma:
            penalty = penalty_of(partial(discriminate, state), img, c)
            state.stats.add(phase, PENALTY_STATS[name], penalty)
            loss = penalty.mean() * (gamma / 2)
            total += loss.detach()
            yield loss
    state.stats.add(phase, "Loss/D/reg", total)


def score_with_penalty(
    state: TrainingState, options: TrainingOptions, name: str, img: Tensor, c: Tensor
) -> tuple[Tensor, Tensor | float, Tensor | float]:
    """What `score` gives for images, and the weighted R1 or R2 [] of the same pass if every step has it, else 0."""
    penalty_of, gamma = penalty_named(options, name)
    if options.r1_interval != 1 or not gamma:
        return *score(state, options, img, c), 0.0
    found = []

    def D(img: Tensor, c: Tensor) -> Tensor:
        found.append(score(state, options, img, c))
        return found[0][0]

    penalty = penalty_of(D, img, c)
    state.stats.add("Dmain", PENALTY_STATS[name], penalty)
    return *found[0], penalty.mean() * (gamma / 2)


def penalty_named(options: TrainingOptions, name: str) -> tuple[Callable[..., Tensor], float]:
    """R1 or R2, and its weight gamma."""
    return (r1_penalty, options.r1_gamma) if name == "R1" else (r2_penalty, options.r2_gamma)


def drift(options: TrainingOptions, real_scores: Tensor) -> Tensor | float:
    """The weighted squared scores [] of real images, which keep WGAN's near 0; 0 without a weight.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        appendix A.
    """
    return real_scores.square().mean() * options.drift_weight if options.drift_weight else 0.0


def gradient_penalty(
    state: TrainingState, options: TrainingOptions, batch: Batch, fake_img: Tensor
) -> Iterator[Tensor]:
    """WGAN-GP's penalty between real and generated images."""
    if not options.gp_weight:
        return
    D = partial(discriminate, state)
    penalty = wgan_gp_penalty(D, batch.real_img, fake_img, batch.real_c, target=options.gp_target)
    state.stats.add("Dmain", "Loss/gp_penalty", penalty)
    yield penalty.mean() * (options.gp_weight / options.gp_target**2)
