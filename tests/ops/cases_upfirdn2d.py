"""The cases of upfirdn2d and of what is a call of it."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from case import Arguments, Case

import gankern

BINOMIAL = [1, 3, 3, 1]
IMAGE = (2, 3, 5, 4)


def _filter(op: str, what: str, shape: tuple[int, ...], taps: Any = None, core: bool = False, **options: Any) -> Case:
    """`taps` is the shape of a random filter, a list of its numbers, or None."""

    def tensors(generator: torch.Generator) -> Arguments:
        if isinstance(taps, tuple):
            return {"f": torch.randn(taps, generator=generator) / math.sqrt(math.prod(taps))}
        return {"f": None if taps is None else gankern.setup_filter(taps)}

    return Case(op, what, shape, tensors, options, core, kernel="upfirdn2d", third=core)


def _upfirdn2d(what: str, shape: tuple[int, ...], taps: Any = None, core: bool = False, **options: Any) -> Case:
    return _filter("upfirdn2d", what, shape, taps, core, **options)


CASES = [
    _upfirdn2d("identity", IMAGE),
    _upfirdn2d("gain", IMAGE, gain=-2.5, padding=1),
    _upfirdn2d("one_tap_1d", IMAGE, (1,), padding=[1, 0]),
    *(_upfirdn2d(f"{k}x{k}-same", IMAGE, (k, k), padding=[k // 2, (k - 1) // 2] * 2) for k in (2, 3, 4, 5, 6, 7)),
    _upfirdn2d("binomial-up_2", IMAGE, BINOMIAL, up=2, padding=[2, 1, 2, 1], gain=4, core=True),
    _upfirdn2d("binomial-down_2", (2, 3, 6, 5), BINOMIAL, down=2, padding=1, core=True),
    _upfirdn2d("binomial-same-flip", IMAGE, (4, 4), padding=[2, 1, 2, 1], flip_filter=True, core=True),
    *(_upfirdn2d(f"1d_{n}-up_2", (1, 2, 4, 3), (n,), up=2, padding=n // 2, gain=4) for n in (5, 8, 12, 20)),
    *(_upfirdn2d(f"1d_{n}-down_2", IMAGE, (n,), down=2, padding=n // 2) for n in (3, 8, 24)),
    _upfirdn2d("1d_6-gain_negative-flip", IMAGE, (6,), padding=3, gain=-2, flip_filter=True),
    _upfirdn2d("2d_12-up_4", (1, 2, 3, 2), (12, 12), up=4, padding=[7, 4, 7, 4], gain=16),
    _upfirdn2d("up_x_only", IMAGE, (1, 4), up=[2, 1], padding=[2, 1, 0, 0]),
    _upfirdn2d("down_y_only", IMAGE, (4, 1), down=[1, 2], padding=[0, 0, 1, 1]),
    _upfirdn2d("7x3-up_1_3-down_2_1", IMAGE, (7, 3), up=[1, 3], down=[2, 1], padding=[1, 0, 3, 2]),
    _upfirdn2d("up_3-down_2", IMAGE, (3, 5), up=3, down=2, padding=[3, -1, 2, 0]),
    _upfirdn2d("up_2-down_2", IMAGE, (4, 4), up=2, down=2, padding=1, core=True),
    _upfirdn2d("down_more_than_the_image", IMAGE, (2, 2), down=9, padding=0),
    _upfirdn2d("up_more_than_the_filter", (1, 2, 3, 2), (2, 3), up=5, padding=[1, 0, 0, 2]),
    _upfirdn2d("cropped", (2, 3, 7, 6), (2, 2), padding=-1),
    _upfirdn2d("cropped-up_2", IMAGE, (4, 4), up=2, padding=[-3, 1, 2, -2]),
    _upfirdn2d("only_padding_is_left", (1, 2, 3, 3), (2, 2), padding=[-4, 7, 6, -5]),
    _upfirdn2d("padding_larger_than_the_image", (1, 2, 2, 3), (3, 3), padding=[6, 5, 4, 7]),
    _upfirdn2d("gain_0", IMAGE, (3, 3), gain=0, padding=1),
    _upfirdn2d("one_pixel", (1, 1, 1, 1), (4, 4), up=2, padding=[2, 1, 2, 1]),
    _upfirdn2d("one_column", (2, 3, 9, 1), (3, 1), padding=[0, 0, 1, 1], down=[1, 2]),
    _upfirdn2d("empty_batch", (0, 3, 4, 5), BINOMIAL, up=2, padding=[2, 1, 2, 1]),
    _upfirdn2d("no_channels", (2, 0, 4, 5), BINOMIAL, down=2, padding=1),
    *(
        _upfirdn2d("binomial-up_2", shape, BINOMIAL, up=2, padding=[2, 1, 2, 1])
        for shape in ((2, 5, 17, 19), (1, 33, 8, 16))
    ),
    *(_upfirdn2d("binomial-down_2", shape, BINOMIAL, down=2, padding=1) for shape in ((2, 5, 19, 37), (1, 33, 8, 16))),
    *(_upfirdn2d("binomial-same", shape, BINOMIAL, padding=[2, 1, 2, 1]) for shape in ((2, 5, 17, 41), (1, 33, 8, 16))),
    _upfirdn2d("1d_12-same", (2, 5, 17, 41), (12,), padding=[6, 5, 6, 5]),
    _filter("filter2d", "5x5", IMAGE, (5, 5)),
    _filter("filter2d", "1d_9-padding", IMAGE, (9,), padding=[1, -1], flip_filter=True),
    _filter("upsample2d", "binomial", IMAGE, BINOMIAL),
    _filter("upsample2d", "3x5-up_2_3", (1, 2, 4, 3), (3, 5), up=[2, 3], padding=[1, 0, 0, -1], gain=0.5),
    _filter("downsample2d", "binomial", (2, 3, 6, 5), BINOMIAL),
    _filter("downsample2d", "1d_8-down_1_3", (2, 3, 6, 5), (8,), down=[1, 3], padding=2),
]


def random_case(rng: random.Random, name: str) -> Case:
    """Any factors and paddings that leave a pixel."""
    shape = (rng.randint(1, 3), rng.randint(1, 9), rng.randint(1, 12), rng.randint(1, 12))
    taps = rng.choice([None, BINOMIAL, (rng.randint(1, 9),), (rng.randint(1, 6), rng.randint(1, 6))])
    f = torch.ones([1]) if taps is None else torch.ones(taps) if isinstance(taps, tuple) else gankern.setup_filter(taps)
    fy, fx = f.shape[0], f.shape[-1]
    up, down = [rng.randint(1, 3), rng.randint(1, 3)], [rng.randint(1, 3), rng.randint(1, 3)]
    padding = [rng.randint(-2, 6) for _ in range(4)]
    for axis, (size, taps_there) in enumerate(((shape[3], fx), (shape[2], fy))):
        lacking = taps_there - (size * up[axis] + padding[2 * axis] + padding[2 * axis + 1])
        padding[2 * axis + 1] += max(0, lacking)
    options = {"up": up, "down": down, "padding": padding, "gain": rng.uniform(-2, 2)}
    return _upfirdn2d(name, shape, taps, flip_filter=rng.random() < 0.5, **options)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32 and (binomial or 7x3 or up_3 or cropped or 1d_8 or 2d_12 or sample2d)",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and binomial",
    "test_gradients_stay_on_the_backend": "up_2-down_2",
    "test_strides_change_nothing": "binomial-up_2 and (channels_last or window)",
    "test_an_expanded_gradient": "binomial-up_2 and over_pixels",
    "test_functorch": "binomial-up_2",
}
TOO_LARGE = "2x5x17x19 or 2x5x19x37 or 2x5x17x41 or 1x33x8x16"
