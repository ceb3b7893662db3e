"""Benchmark cases of conv2d: StyleGAN2's 3x3 layers, where oneDNN's (cuDNN's) kernels do the work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

import gankern
from bench.harness import DTYPES, Case

SHAPES = ((4, 512, 8, 8), (4, 512, 16, 16), (4, 512, 32, 32), (4, 256, 64, 64), (4, 128, 128, 128), (4, 64, 256, 256))


def cases(device: str) -> list[Case]:
    """3x3, stride 1, small to large, in float32 and bfloat16."""
    return [
        Case("conv2d", "3x3", shape, dtype, _eager, _ours, ((shape[1], shape[1], 3, 3),), reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
    ]


_eager = partial(F.conv2d, padding=1)


def _ours(x: torch.Tensor, w: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.conv2d(x, w, padding=1, backend=backend)


def test_conv2d(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
