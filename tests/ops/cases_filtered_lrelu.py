"""The cases of filtered_lrelu."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from case import Arguments, Case

IMAGE = (1, 2, 4, 3)


def _filtered_lrelu(
    what: str,
    shape: tuple[int, ...],
    fu: tuple[int, ...] | None,
    fd: tuple[int, ...] | None,
    core: bool = False,
    bias: str | None = "b",
    **options: Any,
) -> Case:
    """`fu` and `fd` are shapes of random filters."""

    def tensors(generator: torch.Generator) -> Arguments:
        fs = {
            name: f and torch.randn(f, generator=generator) / math.sqrt(math.prod(f))
            for name, f in (("fu", fu), ("fd", fd))
        }
        b = torch.randn([shape[1]], dtype=torch.float64, generator=generator)
        return {**fs, "b": None if bias is None else b.float() if bias == "float32" else b}

    return Case("filtered_lrelu", what, shape, tensors, options, core)


CASES = [
    _filtered_lrelu("up_2-down_2", IMAGE, (6,), (6,), up=2, down=2, padding=[7, 6, 7, 6], core=True),
    _filtered_lrelu("up_4-down_2", IMAGE, (8,), (4,), up=4, down=2, padding=4, clamp=0.9, core=True),
    _filtered_lrelu("up_2-down_4", IMAGE, (4,), (8,), up=2, down=4, padding=6),
    _filtered_lrelu("fd_2d", IMAGE, (4,), (4, 4), up=2, down=2, padding=[4, 3, 4, 3], core=True),
    _filtered_lrelu("fu_2d", IMAGE, (4, 3), (3,), up=2, down=1, padding=2, flip_filter=True),
    _filtered_lrelu("up_3-down_2", IMAGE, (5,), (3,), up=3, down=2, padding=[3, 1, 2, 4]),
    _filtered_lrelu("up_2-down_3", IMAGE, (3, 5), (2, 3), up=2, down=3, padding=[3, 1, 2, 4], flip_filter=True),
    _filtered_lrelu("cropped", (1, 2, 6, 5), (3,), (2,), up=2, down=2, padding=[-1, 1, 1, -2]),
    _filtered_lrelu("no_filters", IMAGE, None, None, gain=0.7, slope=0.1, clamp=0.5),
    _filtered_lrelu("up_only", IMAGE, (4,), None, up=2, padding=[2, 1, 2, 1], slope=0.0),
    _filtered_lrelu("down_only", (1, 2, 6, 5), None, (4,), down=2, padding=1, slope=1.5),
    _filtered_lrelu("no_bias", IMAGE, (4,), (4,), bias=None, up=2, down=2, padding=3),
    _filtered_lrelu("bias_float32", IMAGE, (4,), (4,), bias="float32", up=2, down=2, padding=3),
    _filtered_lrelu("one_pixel", (1, 1, 1, 1), (4,), (4,), up=2, down=2, padding=[4, 3, 4, 3]),
    _filtered_lrelu("empty_batch", (0, 2, 4, 3), (4,), (4,), up=2, down=2, padding=3),
    _filtered_lrelu("no_channels", (2, 0, 4, 3), (4,), (4,), up=2, down=2, padding=3),
    _filtered_lrelu("T", (2, 3, 11, 21), (12,), (12,), up=2, down=2, padding=[11, 10, 11, 10]),
    _filtered_lrelu("T-up_4", (1, 2, 9, 13), (24,), (12,), up=4, down=2, padding=[17, 16, 17, 16]),
    _filtered_lrelu("R", (1, 2, 10, 12), (12,), (12, 12), up=2, down=2, padding=[11, 10, 11, 10]),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 2), rng.randint(1, 4), rng.randint(1, 10), rng.randint(1, 40))
    fu, fd = (rng.choice([None, (rng.randint(1, 9),), (rng.randint(1, 5), rng.randint(1, 5))]) for _ in range(2))
    up, down = rng.randint(1, 4), rng.randint(1, 4)
    padding = [rng.randint(-1, 9) for _ in range(4)]
    for axis in (0, 1):
        taps = sum(f[-1 - axis if len(f) == 2 else 0] - 1 for f in (fu, fd) if f) + 1
        padding[2 * axis + 1] += max(0, taps - shape[3 - axis] * up - padding[2 * axis] - padding[2 * axis + 1])
    options = {"up": up, "down": down, "padding": padding, "flip_filter": rng.random() < 0.5}
    return _filtered_lrelu(name, shape, fu, fd, bias=rng.choice(["b", "float32", None]), **options, slope=1.0)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32 and (up_2-down_2 or fd_2d)",
    "test_gradients_stay_on_the_backend": "up_2-down_2",
    "test_strides_change_nothing": "up_2-down_2 and (channels_last or window)",
    "test_an_expanded_gradient": "up_2-down_2 and over_pixels",
    "test_functorch": "up_2-down_2",
}
TOO_LARGE = "11x21 or 9x13 or 10x12"
