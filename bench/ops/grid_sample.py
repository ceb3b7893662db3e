"""Benchmark cases of grid_sample: images turned by an affine grid, as by augmentation, and features."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import grid_sample as reference

SHAPES = ((8, 3, 256, 256), (4, 64, 64, 64))


def cases(device: str) -> list[Case]:
    """The op's cases, in float32 and bfloat16; the grid is float32."""
    return [
        Case("grid_sample", "rotated", shape, dtype, partial(_eager, grid), partial(_ours, grid))
        for shape in SHAPES
        for grid in [_rotated(shape, device)]
        for dtype in DTYPES
    ]


def _rotated(shape: tuple[int, ...], device: str) -> torch.Tensor:
    """Every image turned by 0.4 radians and shifted a little."""
    cos, sin = math.cos(0.4), math.sin(0.4)
    theta = torch.tensor([[cos, -sin, 0.05], [sin, cos, -0.03]], device=device)
    return gankern.affine_grid(theta.expand(shape[0], 2, 3), shape)


def _eager(grid: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return reference.grid_sample(x, grid, False)


def _ours(grid: torch.Tensor, x: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.grid_sample(x, grid, backend=backend)


def test_grid_sample(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
