"""Benchmark cases of pixel_norm: the layers of a progressive generator, and the latent of a mapping network."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import pixel_norm as reference

SHAPES = ((64, 512, 1, 1), (4, 512, 16, 16), (4, 256, 64, 64), (4, 64, 256, 256))


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case("pixel_norm", "channels", shape, dtype, _eager, _ours, reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
    ]


def _eager(x: torch.Tensor) -> torch.Tensor:
    return reference.pixel_norm(x, 1, 1e-8)


def _ours(x: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.pixel_norm(x, backend=backend)


def test_pixel_norm(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
