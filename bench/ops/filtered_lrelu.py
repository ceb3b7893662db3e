"""Benchmark cases of filtered_lrelu: layers of StyleGAN3-T, whose separable filters have 6 taps a sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import filtered_lrelu as reference

GAIN = 2**0.5
CLAMP = 256.0


class Layer(NamedTuple):
    """The factors, and the shapes of x they are measured at."""

    up: int
    down: int
    shapes: tuple[tuple[int, int, int, int], ...]

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Keeps the size of x times up / down."""
        total = 6 * self.up + 6 * self.down - 1 - self.down
        before = (total + self.up) // 2
        return before, total - before, before, total - before


LAYERS = (
    Layer(2, 2, ((4, 512, 36, 36), (4, 256, 84, 84), (4, 128, 148, 148))),
    Layer(4, 2, ((4, 256, 52, 52),)),
)


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    return [
        Case("filtered_lrelu", f"up {layer.up} down {layer.down}", shape, dtype, eager, ours, (shape[1:2],), peer=peer)
        for dtype in DTYPES
        for layer in LAYERS
        for eager, ours, peer in [_calls(layer, device)]
        for shape in layer.shapes
    ]


def _calls(layer: Layer, device: str) -> tuple[Callable[..., torch.Tensor], ...]:
    """Eager, ours and the peer's."""
    fu, fd = (_low_pass(factor, device) for factor in (layer.up, layer.down))
    return partial(_eager, fu, fd, layer), partial(_ours, fu, fd, layer), partial(_peer, fu, fd, layer)


def _low_pass(factor: int, device: str) -> torch.Tensor:
    """A Kaiser window times a sinc, 6 taps for each sample."""
    taps = 6 * factor
    t = (torch.arange(taps) - (taps - 1) / 2) / factor
    return gankern.setup_filter(torch.sinc(t) * torch.kaiser_window(taps, periodic=False, beta=5.0), device)


def _eager(fu: torch.Tensor, fd: torch.Tensor, layer: Layer, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return reference.filtered_lrelu(x, fu, fd, b, layer.up, layer.down, layer.padding, GAIN, 0.2, CLAMP, False)


def _ours(
    fu: torch.Tensor, fd: torch.Tensor, layer: Layer, x: torch.Tensor, b: torch.Tensor, *, backend: str
) -> torch.Tensor:
    return gankern.filtered_lrelu(x, fu, fd, b, layer.up, layer.down, layer.padding, clamp=CLAMP, backend=backend)


def _peer(
    fu: torch.Tensor, fd: torch.Tensor, layer: Layer, ops: Callable[[str], Any], x: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    published = ops("filtered_lrelu").filtered_lrelu
    return published(x, fu, fd, b, up=layer.up, down=layer.down, padding=list(layer.padding), clamp=CLAMP)


def test_filtered_lrelu(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
