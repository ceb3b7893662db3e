"""Benchmark cases of conditional_batch_norm: what precedes the convolutions of a BigGAN block."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import conditional_batch_norm as reference

SHAPES = ((8, 512, 16, 16), (8, 256, 64, 64), (8, 64, 128, 128))


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case(
            "conditional_batch_norm",
            "relu" if up == 1 else "relu+up",
            shape,
            dtype,
            partial(_eager, up),
            partial(_ours, up),
            (shape[:2], shape[:2]),
            reads_input=True,
        )
        for dtype in DTYPES
        for up in (1, 2)
        for shape in SHAPES
    ]


def _eager(up: int, x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return reference.conditional_batch_norm(x, gain, bias, None, None, 1e-5, True, up, None)[0]


def _ours(up: int, x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.conditional_batch_norm(x, gain, bias, act="relu", up=up, backend=backend)


def test_conditional_batch_norm(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
