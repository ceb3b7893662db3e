"""Benchmark cases of winograd: the 3x3 layers of StyleGAN2, weight transforms included in every pass."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import winograd as reference

SHAPES = (
    (4, 512, 8, 8),
    (4, 512, 16, 16),
    (4, 512, 32, 32),
    (4, 256, 64, 64),
    (4, 128, 128, 128),
    (4, 64, 256, 256),
)


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16; there are kernels for the CPU only."""
    return [
        Case("winograd", "3x3", shape, dtype, _eager, _ours, ((shape[1], shape[1], 3, 3),), reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
        if device == "cpu"
    ]


def _eager(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return reference.winograd(x, w, (1, 1), False)


def _ours(x: torch.Tensor, w: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.winograd(x, w, backend=backend)


def test_winograd(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
