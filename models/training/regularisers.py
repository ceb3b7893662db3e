"""Style mixing, orthogonal regularisation and weight clipping, without host synchronisation.

The penalties are gankern's own.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def mix_styles(ws: Tensor, other: Tensor, probability: float, num_ws: int | None = None) -> Tensor:
    """Takes the layers from a random cutoff on from other latents, with one cutoff per batch.

    Args:
        ws: Latents [N, num_ws, w_dim].
        other: Latents of other z with the same labels [N, num_ws, w_dim].
        probability: Chance of mixing at all; the cutoff is uniform in [1, num_ws).
        num_ws: How many of the latents are in use, the first; None for all.

    Returns:
        Mixed latents [N, num_ws, w_dim].

    Source: Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019,
        section 3.1.
    """
    in_use = ws.shape[1] if num_ws is None else num_ws
    if in_use < 2:
        return ws
    cutoff = torch.randint(1, in_use, [], device=ws.device)  # []
    cutoff = torch.where(torch.rand([], device=ws.device) < probability, cutoff, ws.shape[1])  # []
    own = torch.arange(ws.shape[1], device=ws.device) < cutoff  # [num_ws]
    return torch.where(own[:, None], ws, other)  # [N, num_ws, w_dim]


@torch.no_grad()
def add_orthogonal_gradients(weights: Iterable[Tensor], strength: float) -> None:
    """Adds strength * 2 ((W W^T) o (1 - I)) W to the gradient of every weight W [O, ...], I the identity.

    It is the gradient of strength / 2 * |(W W^T) o (1 - I)|^2: rows are drawn towards right angles, and their lengths
    are left alone. Computed directly, it needs no graph; what has fewer than two dimensions is passed over.

    Args:
        weights: Parameters with a `.grad`, which is changed in place.
        strength: Twice the paper's beta, which is 1e-4; BigGAN-PyTorch's option.

    Source: Brock et al., "Large Scale GAN Training for High Fidelity Natural Image Synthesis", 2019, section 3.1,
        equation 3, with the factor of the first author's PyTorch code.
    """
    for weight in weights:
        if weight.ndim < 2 or weight.grad is None:
            continue
        w = weight.flatten(1)  # [O, K]
        products = (w @ w.t()).fill_diagonal_(0)  # [O, O]
        weight.grad.add_((products @ w).view_as(weight), alpha=2 * strength)


@torch.no_grad()
def clip_weights(net: nn.Module, limit: float) -> None:
    """Moves every weight that a network computes with into [-limit, limit], in place.

    Where the learning rate is equalised that is the parameter times its layer's gain.

    Args:
        net: A critic, whose Lipschitz constant this bounds.
        limit: The paper's c, which is 0.01.

    Source: Arjovsky et al., "Wasserstein GAN", 2017, algorithm 1, line 7.
    """
    for module in net.modules():
        for name, parameter in module.named_parameters(recurse=False):
            bound = limit / getattr(module, f"{name}_gain", 1.0)
            parameter.clamp_(-bound, bound)
