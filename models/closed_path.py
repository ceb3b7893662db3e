"""Closed ways through the codes of a generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .metrics.ppl import slerp
from .trained import Codes, Trained


def closed_path(
    trained: Trained, z: Tensor, c: Tensor, space: str, psi: float = 1.0, cutoff: int | None = None
) -> Callable[[float], Codes]:
    """A closed way through K images, or several at once.

    Args:
        trained: The generator.
        z: Latents [N, K, z_dim] of N ways.
        c: Labels [N, K, c_dim].
        space: 'w': a periodic cubic spline through the styles; 'z': great circles, the labels linearly.
        psi, cutoff: Truncation, as in `Trained.codes`.

    Returns:
        From a time, which is k at image k and K at the first again, to the N codes there.
    """
    n, k, z_dim = z.shape
    if space == "w":
        ends = trained.codes(z.flatten(0, 1), c.flatten(0, 1), psi, cutoff)
        spline = periodic_spline(ends.layers.unflatten(0, (n, k)).transpose(0, 1))
        return lambda t: Codes(spline(t), c[:, 0])

    def at(t: float) -> Codes:
        i, u = int(t) % k, t % 1
        a, b = z[:, i], z[:, (i + 1) % k]  # [N, z_dim]
        length = a.norm(dim=1, keepdim=True).lerp(b.norm(dim=1, keepdim=True), u) / math.sqrt(z_dim)  # [N, 1]
        between = slerp(a, b, torch.full_like(length, u)) * length  # [N, z_dim]
        return trained.codes(between, c[:, i].lerp(c[:, (i + 1) % k], u), psi, cutoff)

    return at


def periodic_spline(points: Tensor) -> Callable[[float], Tensor]:
    """The closed curve through points, twice continuously differentiable, a cubic polynomial between neighbours.

    y(i + u) = (1 - u) y_i + u y_{i+1} + ((1 - u)^3 - (1 - u)) m_i / 6 + (u^3 - u) m_{i+1} / 6, with the second
    derivatives m of m_{i-1} + 4 m_i + m_{i+1} = 6 (y_{i-1} - 2 y_i + y_{i+1}); indices are modulo K.

    Args:
        points: [K, ...], of the times 0, 1, ..., K - 1.

    Returns:
        From a time to the point [...] there; K is 0 again.

    Source: Press et al., "Numerical Recipes", 3rd edition, 2007, section 3.3, equations 3.3.3 to 3.3.7.
    """
    k = len(points)
    eye = torch.eye(k, dtype=torch.float64)
    matrix = 4 * eye + eye.roll(1, 0) + eye.roll(-1, 0)  # [K, K]
    y = points.double().cpu().flatten(1)  # [K, F]
    m = torch.linalg.solve(matrix, 6 * (y.roll(1, 0) - 2 * y + y.roll(-1, 0)))  # [K, F]

    def at(t: float) -> Tensor:
        i, u = int(t) % k, t % 1
        j = (i + 1) % k
        x = (1 - u) * y[i] + u * y[j] + ((1 - u) ** 3 - (1 - u)) * m[i] / 6 + (u**3 - u) * m[j] / 6  # [F]
        return x.to(points).unflatten(0, points.shape[1:])

    return at
