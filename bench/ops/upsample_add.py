"""Benchmark cases of upsample_add: the output skip of StyleGAN2, with its filter [1, 3, 3, 1]."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import upsample_add as reference

SHAPES = ((4, 3, 16, 16), (4, 3, 64, 64), (4, 3, 128, 128))
PADDING = (2, 1, 2, 1)


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16; y gets a gradient too."""
    f = gankern.setup_filter([1, 3, 3, 1], device=device)
    return [
        Case("upsample_add", "RGB", (n, c, h, w), dtype, partial(_eager, f), partial(_ours, f), ((n, c, 2 * h, 2 * w),))
        for dtype in DTYPES
        for n, c, h, w in SHAPES
    ]


def _eager(f: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return reference.upsample_add(x, y, f, (2, 2), PADDING, False, 4.0)


def _ours(f: torch.Tensor, x: torch.Tensor, y: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.upsample_add(x, y, f, backend=backend)


def test_upsample_add(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
