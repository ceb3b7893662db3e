"""Benchmark cases of fade: a generator's images, a discriminator's features, and the real images of ProGAN."""

from __future__ import annotations

from collections.abc import Callable

import torch

import gankern
from bench.harness import DTYPES, Case
from gankern.reference import fade as reference

IMAGES = ((16, 3, 32, 32), (8, 3, 256, 256))
FEATURES = ((16, 512, 16, 16), (8, 128, 64, 64))
ALPHA = 0.3


def cases(device: str) -> list[Case]:
    """The op's cases, small to large, in float32 and bfloat16."""
    found = []
    for dtype in DTYPES:
        for n, c, h, w in IMAGES:
            half = (n, c, h // 2, w // 2)
            found.append(Case("fade", "image and half", (n, c, h, w), dtype, reference_fade, fade, (half,)))
            found.append(Case("fade", "detail", (n, c, h, w), dtype, reference_detail, detail))
        found += [Case("fade", "features", shape, dtype, reference_fade, fade, (shape,)) for shape in FEATURES]
    return found


def reference_fade(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    return reference.fade(new, old, ALPHA)


def reference_detail(x: torch.Tensor) -> torch.Tensor:
    return reference.fade(x, None, ALPHA)


def fade(new: torch.Tensor, old: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.fade(new, old, ALPHA, backend=backend)


def detail(x: torch.Tensor, *, backend: str) -> torch.Tensor:
    return gankern.fade_detail(x, ALPHA, backend=backend)


def test_fade(benchmark: Callable, call: Callable[[], object]) -> None:
    benchmark(call)
