"""Distances between two sets of features, a block at a time: what the neighbourhood metrics are made of."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024  # rows of one block of distances


def centred(metric: str, real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Both sets moved so that the real ones' mean is 0: the same distances with smaller rounding errors.

    Args:
        metric: Name for the message.
        real: [N, F].
        fake: [M, F].
        k: Neighbours.

    Raises:
        ValueError: The widths differ, or there are not more features than neighbours.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1]:
        raise ValueError(f"{metric}: features must be [N, F] and [M, F], got {list(real.shape)} and {list(fake.shape)}")
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"{metric}: k must be in [1, number of features), got {k} of {min(len(real), len(fake))}")
    mean = real.mean(0)  # [F]
    return real - mean, fake - mean


def distance_blocks(x: Tensor, y: Tensor, block: int = BLOCK) -> Iterator[tuple[slice, Tensor]]:
    """Euclidean distances from `block` rows of x [N, F] at a time to all of y [M, F]: (which rows, [block, M]).

    They are computed in the features' dtype, and from products: |x|^2 + |y|^2 - 2 x.y, many times faster than by
    differences, with the rounding errors of the products.
    """
    for first in range(0, len(x), block):
        rows = slice(first, min(first + block, len(x)))
        yield rows, torch.cdist(x[rows], y)


def kth_distances(x: Tensor, k: int, block: int = BLOCK) -> Tensor:
    """Distance from each feature of x [N, F] to its k-th nearest other one: [N]."""
    radii = x.new_empty(len(x))
    for rows, distances in distance_blocks(x, x, block):
        here = torch.arange(len(distances), device=x.device)
        distances[here, here + rows.start] = -1.0  # itself comes first, whatever its rounded distance
        radii[rows] = distances.kthvalue(k + 1, dim=1).values
    return radii


def inside(points: Tensor, centres: Tensor, radii: Tensor, strict: bool, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Counts which points lie in which balls. On the edge is what cannot be told from it for rounding.

    Args:
        points: [N, F].
        centres: [M, F].
        radii: Of the balls [M].
        strict: Whether a point on the edge is outside.
        block: Points at a time.

    Returns:
        The number of balls around each point [N], and of points in each ball [M], int64.
    """
    of_point = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    of_ball = torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    rounding = torch.finfo(points.dtype).eps * points.shape[1] ** 0.5
    point_sizes, centre_sizes = (rounding * x.square().sum(1) for x in (points, centres))
    for rows, distances in distance_blocks(points, centres, block):
        edge = point_sizes[rows, None] + centre_sizes  # [block, M], half width of the edge in squared distance
        depth = radii.square() - distances.square()
        hit = depth > edge if strict else depth >= -edge
        of_point[rows] = hit.sum(1)
        of_ball += hit.sum(0)
    return of_point, of_ball
