"""Style mixing: tensors in, tensors out, no host synchronisation. The penalties are gankern's own."""

import torch
from torch import Tensor


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
