"""Adversarial losses: functions of the discriminator's scores, one value per image."""

import torch.nn.functional as F
from torch import Tensor


def nonsaturating_g(fake_scores: Tensor) -> Tensor:
    """The generator's non-saturating loss: softplus(-D(G(z))) = -log sigmoid(D(G(z))).

    Args:
        fake_scores: Scores of generated images [N, 1], float.

    Returns:
        Loss per image [N, 1].

    Source: Goodfellow et al., "Generative Adversarial Nets", 2014, section 3.
    """
    return F.softplus(-fake_scores)


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
