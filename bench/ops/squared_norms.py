"""Benchmark cases of squared_norms: the gradients that R1 and the path length penalise."""

from __future__ import annotations

from collections.abc import Callable

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import squared_norms as reference

SHAPES = ((32, 14, 1, 512), (16, 3, 64, 64), (8, 3, 256, 256))


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    ours = gankern.squared_norms
    return [
        Case("squared_norms", "gradient", shape, dtype, reference.squared_norms, ours, reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
    ]


def test_squared_norms(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
