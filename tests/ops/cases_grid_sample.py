"""The cases of grid_sample."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case

IMAGE = (2, 3, 5, 4)


def points(n: int, h: int, w: int, shape: tuple[int, ...], generator: torch.Generator, align: bool) -> torch.Tensor:
    """Points [n, h, w, 2] in and around images of `shape`, none near the centre of a row or a column of pixels."""
    size = torch.tensor([shape[3], shape[2]], dtype=torch.float64)
    pixel = (torch.rand([n, h, w, 2], dtype=torch.float64, generator=generator) * (size + 3)).floor() - 2
    position = pixel + 0.15 + 0.7 * torch.rand([n, h, w, 2], dtype=torch.float64, generator=generator)
    return position * 2 / (size - 1).clamp(min=1) - 1 if align else (2 * position + 1) / size - 1


def _grid_sample(
    what: str,
    shape: tuple[int, ...],
    out: tuple[int, int] = (3, 4),
    core: bool = False,
    fp32: bool = False,
    **options: Any,
) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        grid = points(shape[0], *out, shape, generator, options.get("align_corners", False))
        return {"grid": grid.float() if fp32 else grid}

    return Case("grid_sample", what, shape, tensors, options, core, wrt=("x", "grid"))


CASES = [
    _grid_sample("random", IMAGE, core=True),
    _grid_sample("align_corners", IMAGE, align_corners=True),
    _grid_sample("grid_float32", IMAGE, fp32=True, core=True),
    _grid_sample("one_point", IMAGE, (1, 1)),
    _grid_sample("one_pixel", (2, 3, 1, 1)),
    _grid_sample("one_pixel-align_corners", (2, 3, 1, 1), align_corners=True),
    _grid_sample("one_column", (1, 2, 6, 1), (2, 3)),
    _grid_sample("one_row", (1, 2, 1, 6), (2, 3)),
    _grid_sample("one_channel", (2, 1, 4, 3)),
    _grid_sample("larger", (1, 2, 3, 3), (7, 5)),
    _grid_sample("empty_batch", (0, 3, 4, 5)),
    _grid_sample("no_channels", (2, 0, 4, 5)),
    _grid_sample("random", (2, 5, 6, 7), (19, 23)),
    _grid_sample("random", (1, 33, 4, 6), (9, 31)),
    _grid_sample("random", (2, 70, 6, 5), (4, 7)),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 3), rng.randint(1, 20), rng.randint(1, 12), rng.randint(1, 12))
    out = (rng.randint(1, 20), rng.randint(1, 20))
    return _grid_sample(name, shape, out, fp32=rng.random() < 0.5, align_corners=rng.random() < 0.3)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16",
    "test_gradients_stay_on_the_backend": "random",
    "test_strides_change_nothing": "random and (channels_last or window)",
    "test_an_expanded_gradient": "random and over_pixels",
    "test_functorch": "random",
}
TOO_LARGE = "2x5x6x7 or 1x33x4x6 or 2x70x6x5"
