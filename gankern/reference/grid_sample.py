"""grid_sample and affine_grid in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

# Older versions of torch's own op cannot be differentiated twice.
_TWICE = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)


def grid_sample(x: torch.Tensor, grid: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """Bilinear, zeros outside; arguments as in `gankern.grid_sample`. Positions need more than 16 bits."""
    total = torch.float64 if x.dtype == torch.float64 else torch.float32
    sample = F.grid_sample if _TWICE else _sampled
    y = sample(x.to(total), grid.to(total), align_corners=align_corners).to(x.dtype)
    channels_last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return y.contiguous(memory_format=torch.channels_last) if channels_last else y


def affine_grid(theta: torch.Tensor, size: tuple[int, int], align_corners: bool) -> torch.Tensor:
    """grid[n, i, j] = theta[n] (x_j, y_i, 1); size is (h, w)."""
    y, x = (_centres(count, align_corners, theta) for count in size)
    rows = torch.addcmul(theta[:, None, :, 2], y[None, :, None], theta[:, None, :, 1])  # [N, h, 2]
    return torch.addcmul(rows[:, :, None], x[None, None, :, None], theta[:, None, None, :, 0])


def _centres(count: int, align_corners: bool, like: torch.Tensor) -> torch.Tensor:
    """Where the `count` pixels of an axis lie in [-1, 1]."""
    if align_corners:
        return torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device) * (count > 1)
    pixels = torch.arange(count, dtype=like.dtype, device=like.device)
    return (2 * pixels + 1) / count - 1


class Corners:
    """The four pixels around each of the P points of a grid, [N, 1, P], in the order 00, 01, 10, 11 (y, x).

    What is built on it is differentiable to any order; between the kinks, that is.
    """

    def __init__(self, grid: torch.Tensor, h: int, w: int, align_corners: bool) -> None:
        sides = (w - 1, h - 1) if align_corners else (w, h)
        self.scale = torch.cat([grid.new_full([1], side / 2) for side in sides])  # a list would be copied from the host
        position = (grid.flatten(1, 2) + 1) * self.scale - (0.0 if align_corners else 0.5)  # [N, P, 2]
        low = position.detach().floor()
        self.x, self.y = (position - low)[:, None].unbind(-1)
        low_x, low_y = low[:, None].unbind(-1)
        self.at, self.inside = [], []
        for dy in (0, 1):
            for dx in (0, 1):
                column, row = low_x + dx, low_y + dy
                inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
                self.inside.append(inside)
                self.at.append(torch.where(inside, row * w + column, 0).long())

    def weights(self) -> list[torch.Tensor]:
        return [(1 - self.x) * (1 - self.y), self.x * (1 - self.y), (1 - self.x) * self.y, self.x * self.y]

    def weight_changes(self, u: torch.Tensor, v: torch.Tensor) -> list[torch.Tensor]:
        """The derivative of the weights where the points move by u along x and v along y."""
        x, y = self.x, self.y
        return [-u * (1 - y) - v * (1 - x), u * (1 - y) - v * x, v * (1 - x) - u * y, u * y + v * x]

    def values(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Of the images x at the corners, [N, C, P], zero outside."""
        pixels = x.flatten(2)
        found = [pixels.gather(2, at.expand(-1, x.shape[1], -1)) for at in self.at]
        return [torch.where(inside, value, 0) for inside, value in zip(self.inside, found, strict=True)]

    def spread(self, dy: torch.Tensor, weights: list[torch.Tensor], h: int, w: int) -> torch.Tensor:
        """The transpose of the weighted sum of `values`: images [N, C, h, w] from dy [N, C, P]."""
        images = dy.new_zeros([*dy.shape[:2], h * w])
        for at, inside, weight in zip(self.at, self.inside, weights, strict=True):
            images = images.scatter_add(2, at.expand(-1, dy.shape[1], -1), torch.where(inside, dy * weight, 0))
        return images.unflatten(2, (h, w))


def _sampled(x: torch.Tensor, grid: torch.Tensor, align_corners: bool) -> torch.Tensor:
    corners = Corners(grid, x.shape[2], x.shape[3], align_corners)
    return _weighted(corners.values(x), corners.weights()).unflatten(2, grid.shape[1:3])


def _weighted(values: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    return sum((v * w for v, w in zip(values[1:], weights[1:], strict=True)), values[0] * weights[0])


def grid_gradient_backward(
    move: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, grid: torch.Tensor, align_corners: bool
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor], Callable[[], torch.Tensor]]:
    """The derivative of dgrad(dy, x, grid), with `move` the gradient that reaches dgrad.

    Returns:
        Three functions without arguments, that compute the gradients of dy, x and grid.
    """
    total = torch.float64 if x.dtype == torch.float64 else torch.float32
    h, w = x.shape[2:]
    corners = Corners(grid.to(total), h, w, align_corners)
    u, v = (move.to(total).flatten(1, 2) * corners.scale)[:, None].unbind(-1)  # [N, 1, P]
    changes = corners.weight_changes(u, v)

    def of_dy() -> torch.Tensor:
        return _weighted(corners.values(x.to(total)), changes).unflatten(2, grid.shape[1:3]).to(dy.dtype)

    def of_x() -> torch.Tensor:
        return corners.spread(dy.to(total).flatten(2), changes, h, w).to(x.dtype)

    def of_grid() -> torch.Tensor:
        values = corners.values(x.to(total))
        mixed = (dy.to(total).flatten(2) * (values[0] - values[1] - values[2] + values[3])).sum(1)  # [N, P]
        moved = torch.stack([v[:, 0] * mixed, u[:, 0] * mixed], -1) * corners.scale
        return moved.unflatten(1, grid.shape[1:3]).to(grid.dtype)

    return of_dy, of_x, of_grid
