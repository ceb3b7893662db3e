"""Benchmark cases of styled_bias_act: demodulation, noise, bias, lrelu and clamp after a modulated convolution."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

import gankern
from bench.harness import DTYPES, Case

SHAPES = ((4, 512, 16, 16), (4, 256, 64, 64), (4, 64, 256, 256))
GAIN = 2**0.5
CLAMP = 256.0


def cases(device: str) -> list[Case]:
    """The tail of StyleGAN2's layer and the modulation before it, small to large, in float32 and bfloat16."""
    return [case(shape, dtype) for dtype in DTYPES for case in (_tail, _modulation) for shape in SHAPES]


def _tail(shape: tuple[int, int, int, int], dtype: torch.dtype) -> Case:
    n, c, h, w = shape
    inputs, constants = ((n, c), (), (c,)), ((n, 1, h, w),)
    name = "demod+noise+bias+lrelu+clamp"
    return Case("styled_bias_act", name, shape, dtype, _eager, _ours, inputs, constants, True, True)


def _modulation(shape: tuple[int, int, int, int], dtype: torch.dtype) -> Case:
    return Case(
        "styled_bias_act", "modulation", shape, dtype, _eager_scale, gankern.styled_bias_act, (shape[:2],),
        reads_input=True,
    )  # fmt: skip


def _eager(
    x: torch.Tensor, scale: torch.Tensor, strength: torch.Tensor, b: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """lrelu(gain * u) is gain * lrelu(u): the gain goes into the small tensors, and what can be is done in place."""
    x = x * (scale * GAIN)[:, :, None, None]
    x = x.add_(noise * (strength * GAIN)).add_((b * GAIN)[:, None, None])
    return F.leaky_relu_(x, 0.2).clamp(-CLAMP, CLAMP)


def _ours(
    x: torch.Tensor,
    scale: torch.Tensor,
    strength: torch.Tensor,
    b: torch.Tensor,
    noise: torch.Tensor,
    *,
    backend: str,
) -> torch.Tensor:
    return gankern.styled_bias_act(x, scale, noise, strength, b, act="lrelu", clamp=CLAMP, backend=backend)


def _eager_scale(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return x * scale[:, :, None, None]


def test_styled_bias_act(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
