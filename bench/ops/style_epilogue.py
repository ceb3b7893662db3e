"""Benchmark cases of style_epilogue: noise, bias, lrelu and AdaIN, the tail of a style-based generator's layer."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from bench.ops import adain

SHAPES = adain.SHAPES


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case(
            "style_epilogue",
            "noise+bias+lrelu",
            shape,
            dtype,
            _eager,
            _ours,
            (shape[1:2], shape[1:2], shape[:2], shape[:2]),
            ((shape[0], 1, *shape[2:]),),
            reads_input=True,
        )
        for dtype in DTYPES
        for shape in SHAPES
    ]


def _eager(
    x: torch.Tensor,
    strength: torch.Tensor,
    b: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    u = torch.addcmul(x, strength[:, None, None], noise) + b[:, None, None]
    return adain.eager(torch.nn.functional.leaky_relu(u, 0.2), scale, shift)


def _ours(
    x: torch.Tensor,
    strength: torch.Tensor,
    b: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    noise: torch.Tensor,
    *,
    backend: str,
) -> torch.Tensor:
    return gankern.style_epilogue(x, noise, strength, b, scale, shift, backend=backend)


def test_style_epilogue(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
