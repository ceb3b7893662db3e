"""Benchmark cases of minibatch_stddev: the end of StyleGAN's discriminator."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import minibatch_stddev as reference

SHAPES = ((16, 512, 4, 4), (32, 512, 4, 4))


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case("minibatch_stddev", "group 4", shape, dtype, _eager, _ours, reads_input=True)
        for dtype in DTYPES
        for shape in SHAPES
    ]


def _eager(x: torch.Tensor) -> torch.Tensor:
    return reference.minibatch_stddev(x, 4, 1)


def _ours(x: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.minibatch_stddev(x, backend=backend)


def test_minibatch_stddev(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
