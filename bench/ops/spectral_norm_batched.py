"""Benchmark cases of spectral_norm_batched: the 41 normalised layers of BigGAN-128's generator with 32 channels.

One iteration per call, nothing written back, so that every call has the same work. The results are joined to one
tensor, which costs all sides the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import Case
from gankern.reference import spectral_norm_batched as reference

CHANNELS = 32
CONDITION = 128 + 20  # of a conditional batch norm: the shared embedding and a part of z
EPS = 1e-6


def _shapes() -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    for i, o in ((16, 16), (16, 8), (8, 4), (4, 2), (2, 1)):
        i, o = i * CHANNELS, o * CHANNELS
        shapes += [(o, i, 3, 3), (o, o, 3, 3), (o, i, 1, 1), *[(i, CONDITION)] * 2, *[(o, CONDITION)] * 2]
    c = 2 * CHANNELS
    attention = [(c // 8, c, 1, 1), (c // 8, c, 1, 1), (c // 2, c, 1, 1), (c, c // 2, 1, 1)]
    return [*shapes, *attention, (3, CHANNELS, 3, 3), (256 * CHANNELS, 20)]


def cases(device: str) -> list[Case]:
    """The op's one case, in float32."""
    first, *others = _shapes()
    us = tuple((1, shape[0]) for shape in (first, *others))
    name = f"BigGAN-128 G, {len(us)} layers"
    inputs = tuple(others)
    return [Case("spectral_norm_batched", name, first, torch.float32, _eager, _ours, inputs, us, reads_output=True)]


def _eager(*tensors: torch.Tensor) -> torch.Tensor:
    weights, us = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
    return _joined(reference.spectral_norm_batched(weights, us, [], "v", EPS, 1, False)[0])


def _ours(*tensors: torch.Tensor, backend: str) -> torch.Tensor:
    weights, us = tensors[: len(tensors) // 2], tensors[len(tensors) // 2 :]
    return _joined(gankern.spectral_norm_batched(weights, us, eps=EPS, training=False, backend=backend))


def _joined(weights: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([weight.reshape(-1) for weight in weights])


def test_spectral_norm_batched(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
