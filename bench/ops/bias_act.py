"""Benchmark cases of bias_act: the tail of a StyleGAN2 layer (lrelu, gain, clamp)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import bias_act as reference

SHAPES = ((4, 512, 16, 16), (4, 256, 64, 64), (4, 64, 256, 256))
GAIN = 2**0.5
CLAMP = 256.0


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case("bias_act", "lrelu+clamp", shape, dtype, _eager, _ours, (shape[1:2],), reads_output=True, peer=_peer)
        for dtype in DTYPES
        for shape in SHAPES
    ]


def _eager(x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return reference.bias_act(x, b, 1, "lrelu", 0.2, GAIN, CLAMP)


def _ours(x: torch.Tensor, b: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.bias_act(x, b, act="lrelu", clamp=CLAMP, backend=backend)


def _peer(ops: Callable[[str], Any], x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return ops("bias_act").bias_act(x, b, act="lrelu", clamp=CLAMP)


def test_bias_act(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
