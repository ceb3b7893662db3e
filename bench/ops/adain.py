"""Benchmark cases of adain: the layers of a style-based generator."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case

SHAPES = ((4, 512, 16, 16), (4, 256, 64, 64), (4, 64, 256, 256))


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case("style_epilogue", "adain", shape, dtype, eager, _ours, (shape[:2], shape[:2]), reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
    ]


def eager(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Every plane as a channel of one batch norm: the fastest plain PyTorch, right up to the second derivative."""
    n, c, h, w = x.shape
    scale, shift = scale.float().reshape(n * c), shift.float().reshape(n * c)
    planes = x.float().reshape(1, n * c, h, w)
    y = torch.batch_norm(planes, scale, shift, None, None, True, 0.0, eps, False)
    return y.view(n, c, h, w).to(x.dtype)


def _ours(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.adain(x, scale, shift, backend=backend)


def test_adain(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
