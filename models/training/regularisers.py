"""Gradient penalties and style mixing: tensors in, tensors out, no host synchronisation."""

import math

import torch
from torch import Tensor

import gankern


def r1_penalty(real_img: Tensor, real_scores: Tensor) -> Tensor:
    """Squared norm of the discriminator's gradient at each real image: sum |d D(x) / d x|^2.

    Args:
        real_img: Real images [N, C, H, W] that require grad.
        real_scores: D(real_img) [N, 1].

    Returns:
        Penalty per image [N]; the loss is r1_gamma / 2 times it.

    Gradients: to D's parameters, through the inner gradient.

    Source: Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9.
    """
    with gankern.inputs_only():
        (gradient,) = torch.autograd.grad(real_scores.sum(), real_img, create_graph=True)  # [N, C, H, W]
    return gradient.square().sum([1, 2, 3])  # [N]


def path_lengths(img: Tensor, ws: Tensor) -> Tensor:
    """Length of the Jacobian's product with a random image: |J_w^T y|, y ~ N(0, 1) / sqrt(H W), rms over layers.

    Args:
        img: Generated images [N, C, H, W].
        ws: The latents they were made from [N, num_ws, w_dim].

    Returns:
        Path lengths [N].

    Gradients: to G's parameters, through the inner gradient.

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, section 3.2.
    """
    noise = torch.randn_like(img) / math.sqrt(img.shape[2] * img.shape[3])  # [N, C, H, W]
    with gankern.inputs_only():
        (gradient,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
    return gradient.square().sum(2).mean(1).sqrt()  # [N]


def path_length_penalty(lengths: Tensor, pl_mean: Tensor, decay: float = 0.01) -> Tensor:
    """Squared distance of path lengths from their running mean, which moves on: (length - mean)^2.

    Args:
        lengths: Path lengths [N].
        pl_mean: Running mean [], updated in place.
        decay: Step of the running mean towards the batch's mean.

    Returns:
        Penalty per image [N].

    Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, equation 4.
    """
    mean = pl_mean.lerp(lengths.mean(), decay)  # []
    pl_mean.copy_(mean.detach())
    return (lengths - mean).square()  # [N]


def mix_styles(ws: Tensor, other: Tensor, probability: float) -> Tensor:
    """Takes the layers from a random cutoff on from other latents, with one cutoff per batch.

    Args:
        ws: Latents [N, num_ws, w_dim].
        other: Latents of other z with the same labels [N, num_ws, w_dim].
        probability: Chance of mixing at all; the cutoff is uniform in [1, num_ws).

    Returns:
        Mixed latents [N, num_ws, w_dim].

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
        section 3.1.
    """
    num_ws = ws.shape[1]
    if num_ws < 2:
        return ws
    cutoff = torch.randint(1, num_ws, [], device=ws.device)  # []
    cutoff = torch.where(torch.rand([], device=ws.device) < probability, cutoff, num_ws)  # []
    own = torch.arange(num_ws, device=ws.device) < cutoff  # [num_ws]
    return torch.where(own[:, None], ws, other)  # [N, num_ws, w_dim]
