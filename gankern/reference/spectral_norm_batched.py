"""spectral_norm_batched in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def spectral_norm_batched(
    weights: Sequence[torch.Tensor],
    us: Sequence[torch.Tensor],
    vs: Sequence[torch.Tensor],
    order: str,
    eps: float,
    num_iters: int,
    training: bool,
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The weights [O, ...] over their spectral norms, and these norms [layers]; layer by layer.

    Arguments as in `gankern.spectral_norm_batched`, all given, no `vs` being an empty sequence.
    """
    normalised, sigmas = [], []
    for i, (weight, u_buffer) in enumerate(zip(weights, us, strict=True)):
        matrix = weight.flatten(1)  # [O, K]
        matrix = matrix if matrix.dtype == torch.float64 else matrix.float()
        with torch.no_grad():
            u = u_buffer.flatten().to(matrix.dtype, copy=True)  # [O]; the next forward pass changes the buffers
            v = vs[i].flatten().to(matrix.dtype, copy=True) if vs else matrix.new_empty(0)  # [K]
            for _ in range(num_iters if training else 0 if vs else 1):
                if order == "u":
                    u = F.normalize(torch.mv(matrix, v), dim=0, eps=eps)
                v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=eps)
                if order == "v":
                    u = F.normalize(torch.mv(matrix, v), dim=0, eps=eps)
            if training:
                u_buffer.copy_(u.view_as(u_buffer))
                if vs:
                    vs[i].copy_(v.view_as(vs[i]))
        sigma = torch.dot(u, torch.mv(matrix, v))
        normalised.append((matrix / sigma).to(weight.dtype).view_as(weight))
        sigmas.append(sigma)
    return normalised, torch.stack(sigmas)
