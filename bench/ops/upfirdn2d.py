"""Benchmark cases of upfirdn2d: the four resamplings of StyleGAN2, with its filter [1, 3, 3, 1]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import upfirdn2d as reference


class Resampling(NamedTuple):
    """Arguments of upfirdn2d, and the shapes of x they are measured at."""

    name: str
    up: int
    down: int
    padding: tuple[int, int, int, int]
    gain: float
    shapes: tuple[tuple[int, int, int, int], ...]


RESAMPLINGS = (
    # After a transposed convolution, whose result has one pixel more than the layer's.
    Resampling("FIR", 1, 1, (1, 1, 1, 1), 4, ((4, 512, 17, 17), (4, 256, 65, 65), (4, 64, 257, 257))),
    Resampling("up 2x", 2, 1, (2, 1, 2, 1), 4, ((4, 512, 8, 8), (4, 256, 32, 32), (4, 64, 128, 128))),
    Resampling("down 2x", 1, 2, (1, 1, 1, 1), 1, ((4, 512, 16, 16), (4, 256, 64, 64), (4, 64, 256, 256))),
    Resampling("up 2x RGB", 2, 1, (2, 1, 2, 1), 4, ((4, 3, 16, 16), (4, 3, 64, 64), (4, 3, 128, 128))),
)


def cases(device: str) -> list[Case]:
    """The op's cases, resampling by resampling, small to large, in float32 and bfloat16."""
    f = gankern.setup_filter([1, 3, 3, 1], device=device)
    return [
        Case("upfirdn2d", r.name, shape, dtype, partial(_eager, f, r), partial(_ours, f, r), peer=partial(_peer, f, r))
        for dtype in DTYPES
        for r in RESAMPLINGS
        for shape in r.shapes
    ]


def _eager(f: torch.Tensor, r: Resampling, x: torch.Tensor) -> torch.Tensor:
    return reference.upfirdn2d(x, f, (r.up, r.up), (r.down, r.down), r.padding, False, r.gain)


def _ours(f: torch.Tensor, r: Resampling, x: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.upfirdn2d(x, f, r.up, r.down, r.padding, gain=r.gain, backend=backend)


def _peer(f: torch.Tensor, r: Resampling, ops: Callable[[str], Any], x: torch.Tensor) -> torch.Tensor:
    return ops("upfirdn2d").upfirdn2d(x, f, up=r.up, down=r.down, padding=list(r.padding), gain=r.gain)


def test_upfirdn2d(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
