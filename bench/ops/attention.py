"""Benchmark cases of attention: a small one, and BigGAN at 128 pixels, from 64x64 to 32x32 pixels."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case

# theta, phi and g as images: q [8, 4096, 24], k [8, 1024, 24], v [8, 1024, 96]; and [4, 1024, 64], [4, 256, 64 | 256].
SHAPES = (
    ((4, 64, 32, 32), (4, 64, 16, 16), (4, 256, 16, 16)),
    ((8, 24, 64, 64), (8, 24, 32, 32), (8, 96, 32, 32)),
)


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case(
            "attention", "self_attention2d", theta, dtype, _eager, _ours, (phi, g), reads_output=True, reads_input=True
        )
        for dtype in DTYPES
        for theta, phi, g in SHAPES
    ]


def _eager(theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return gankern.self_attention2d(theta, phi, g, backend="eager")


def _ours(theta: torch.Tensor, phi: torch.Tensor, g: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.self_attention2d(theta, phi, g, backend=backend)


def test_attention(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
