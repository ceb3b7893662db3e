"""Benchmark cases of winograd_strided: the up- and downsampling layers of StyleGAN2, weight transforms included."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import winograd_strided as reference

# The small image, and the channels of the large one.
LAYERS = (
    ((4, 512, 8, 8), 512),
    ((4, 512, 16, 16), 512),
    ((4, 512, 32, 32), 512),
    ((4, 512, 32, 32), 256),
    ((4, 256, 64, 64), 128),
    ((4, 128, 128, 128), 64),
)


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16; there are kernels for the CPU only."""
    if device != "cpu":
        return []
    found = []
    for dtype in DTYPES:
        for small, o in LAYERS:
            n, i, h, w = small
            large = (n, o, 2 * h + 1, 2 * w + 1)
            weight = ((i, o, 3, 3),)
            found.append(Case("winograd_strided", "up", small, dtype, _eager_up, _up, weight, reads_input=True))
            found.append(Case("winograd_strided", "down", large, dtype, _eager_down, _down, weight, reads_input=True))
    return found


def _eager_up(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return reference.winograd_strided(x, w, (0, 0), True)


def _eager_down(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return reference.winograd_strided(x, w, (0, 0), False)


def _up(x: torch.Tensor, w: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.winograd_strided(x, w, transposed=True, backend=backend)


def _down(x: torch.Tensor, w: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.winograd_strided(x, w, backend=backend)


def test_winograd_strided(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
