"""Adversarial losses: functions of the discriminator's scores, one value per image.

An `AdversarialLoss` is three of them: what the generator minimises on its images, and what the discriminator
minimises on generated and on real ones. A `RelativisticLoss` compares the two kinds of images, and is one of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(NamedTuple):
    """Scores [N, 1] to the loss per image [N, 1]."""

    g: Callable[[Tensor], Tensor]  # the generator's, of the scores of generated images
    d_fake: Callable[[Tensor], Tensor]
    d_real: Callable[[Tensor], Tensor]


# (scores that should be higher [N, 1], scores that should be lower [N, 1]) to the loss per image [N, 1]. The
# discriminator minimises it of (real, generated), the generator of (generated, real).
RelativisticLoss = Callable[[Tensor, Tensor], Tensor]


def nonsaturating_g(fake_scores: Tensor) -> Tensor:
    """The generator's non-saturating loss: softplus(-D(G(z))) = -log sigmoid(D(G(z))).

    Args:
        fake_scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, section 3.
    """
    return F.softplus(-fake_scores)


def saturating_g(fake_scores: Tensor) -> Tensor:
    """The generator's side of the minimax game: -softplus(D(G(z))) = log(1 - sigmoid(D(G(z)))).

    Args:
        fake_scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, equation 1.
    """
    return -F.softplus(fake_scores)


def logistic_d_fake(fake_scores: Tensor) -> Tensor:
    """The discriminator's logistic loss on generated images: softplus(D(G(z))) = -log(1 - sigmoid(D(G(z)))).

    Args:
        fake_scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, equation 1.
    """
    return F.softplus(fake_scores)


def logistic_d_real(real_scores: Tensor) -> Tensor:
    """The discriminator's logistic loss on real images: softplus(-D(x)) = -log sigmoid(D(x)).

    Args:
        real_scores: Scores of real images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, equation 1.
    """
    return F.softplus(-real_scores)


def higher(scores: Tensor) -> Tensor:
    """What wants high scores, and takes them as they are: -D(x).

    Args:
        scores: Scores [N, 1], float: of generated images for G, of real ones for D.

    Returns:
        Loss per image [N, 1].

    Source: Arjovsky et al., "Wasserstein GAN", 2017, equation 3; the generator's hinge loss: Miyato et al., "Spectral
        Normalization for Generative Adversarial Networks", 2018, equation 17.
    """
    return -scores


def lower(scores: Tensor) -> Tensor:
    """The Wasserstein discriminator's loss on generated images: D(G(z)).

    Args:
        scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Arjovsky et al., "Wasserstein GAN", 2017, equation 3.
    """
    return scores


def hinge_d_fake(fake_scores: Tensor) -> Tensor:
    """The discriminator's hinge loss on generated images: max(0, 1 + D(G(z))).

    Args:
        fake_scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, equation 16.
    """
    return F.relu(1 + fake_scores)


def hinge_d_real(real_scores: Tensor) -> Tensor:
    """The discriminator's hinge loss on real images: max(0, 1 - D(x)).

    Args:
        real_scores: Scores of real images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, equation 16.
    """
    return F.relu(1 - real_scores)


def squares_to_one(scores: Tensor) -> Tensor:
    """Least squares towards the score of real images: (D(x) - 1)^2 / 2.

    Args:
        scores: Scores [N, 1], float: of generated images for G, of real ones for D.

    Returns:
        Loss per image [N, 1].

    Source: Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 9.
    """
    return (scores - 1).square() / 2


def squares_to_zero(scores: Tensor) -> Tensor:
    """Least squares towards the score of generated images: D(G(z))^2 / 2.

    Args:
        scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 9.
    """
    return scores.square() / 2


def pairs(higher: Tensor, lower: Tensor) -> Tensor:
    """Relativistic logistic loss on pairs: softplus(lower - higher) = -log sigmoid(higher - lower).

    Args:
        higher: Scores that should be the higher ones [N, 1], float; image k is compared with image k of the others.
        lower: Scores that should be the lower ones [N, 1].

    Returns:
        Loss per pair [N, 1].

    Source: Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard GAN", 2018,
        section 4.1, RSGAN; RpGAN in Huang et al., "The GAN is dead; long live the GAN! A Modern GAN Baseline", 2024,
        equation 2.
    """
    return F.softplus(lower - higher)


def averages(higher: Tensor, lower: Tensor) -> Tensor:
    """Relativistic average logistic loss: each score against the mean of the others, from both sides.

    softplus(mean(lower) - higher) + softplus(lower - mean(higher)); the means are over the images at once.

    Args:
        higher: Scores that should be the higher ones [N, 1], float.
        lower: Scores that should be the lower ones [N, 1].

    Returns:
        Loss per image of either kind, added up [N, 1].

    Source: Jolicoeur-Martineau, "The relativistic discriminator: a key element missing from standard GAN", 2018,
        section 4.3, RaSGAN.
    """
    return F.softplus(lower.mean() - higher) + F.softplus(lower - higher.mean())


LOSSES = {
    #                                      G                D, generated     D, real
    "logistic":            AdversarialLoss(nonsaturating_g, logistic_d_fake, logistic_d_real),
    "logistic-saturating": AdversarialLoss(saturating_g,    logistic_d_fake, logistic_d_real),
    "wgan":                AdversarialLoss(higher,          lower,           higher),
    "hinge":               AdversarialLoss(higher,          hinge_d_fake,    hinge_d_real),
    "lsgan":               AdversarialLoss(squares_to_one,  squares_to_zero, squares_to_one),
}  # fmt: skip

RELATIVISTIC_LOSSES: dict[str, RelativisticLoss] = {"rpgan": pairs, "ragan": averages}
