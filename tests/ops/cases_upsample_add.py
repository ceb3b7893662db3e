"""The cases of upsample_add."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from case import Arguments, Case

import gankern

BINOMIAL = [1, 3, 3, 1]


def _upsample_add(
    what: str, shape: tuple[int, ...], taps: Any = BINOMIAL, core: bool = False, y: str = "", **options: Any
) -> Case:
    """`taps` is the shape of a random filter, a list of its numbers, or None; `y` a dtype of its own."""

    def tensors(generator: torch.Generator) -> Arguments:
        f = None if taps is None else gankern.setup_filter(taps) if isinstance(taps, list) else None
        if isinstance(taps, tuple):
            f = torch.randn(taps, generator=generator) / math.sqrt(math.prod(taps))
        size = gankern.upsample2d(torch.zeros(shape), f, options.get("up", 2), options.get("padding", 0)).shape
        summand = torch.randn(size, dtype=torch.float64, generator=generator)
        return {"y": summand.to(getattr(torch, y)) if y else summand, "f": f}

    return Case("upsample_add", what, shape, tensors, options, core, images=("x", "y"), wrt=("x", "y"))


CASES = [
    _upsample_add("image", (2, 3, 3, 4), core=True),
    _upsample_add("wide", (1, 2, 5, 19)),
    _upsample_add("many_channels", (1, 33, 3, 2)),
    _upsample_add("y_float32", (2, 3, 3, 4), y="float32"),
    _upsample_add("3x5-up_2_3", (1, 2, 4, 3), (3, 5), up=[2, 3], padding=[1, 0, 0, 1], gain=0.5, flip_filter=True),
    _upsample_add("1d_8", (1, 2, 4, 3), (8,)),
    _upsample_add("no_filter-up_1", (2, 3, 2, 2), None, up=1),
    _upsample_add("one_pixel", (1, 1, 1, 1)),
    _upsample_add("empty_batch", (0, 3, 4, 5)),
    _upsample_add("no_channels", (2, 0, 4, 5)),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 3), rng.randint(1, 9), rng.randint(1, 12), rng.randint(1, 12))
    taps = rng.choice([BINOMIAL, BINOMIAL, (rng.randint(3, 9),), (rng.randint(3, 6), rng.randint(3, 6))])
    options = {"up": [rng.randint(1, 3), rng.randint(1, 3)], "padding": rng.randint(0, 2), "gain": rng.uniform(-2, 2)}
    return _upsample_add(name, shape, taps, y=rng.choice(["", "", "float32"]), **options)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and (image or y_float32)",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "channels_last or window",
}
TOO_LARGE = "1x2x5x19 or 1x33x3x2"
