"""The cases of pixel_norm."""

from __future__ import annotations

import random

from case import Arguments, Case

INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and channels",
    "test_derivatives_are_right_to_second_order": "vector",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "channels_last or window",
    "test_an_expanded_gradient": "over_pixels",
    "test_functorch": "",
}
TOO_LARGE = "40x33x17"


def _pixel_norm(what: str, shape: tuple[int, ...], core: bool = False, third: bool = False, **options: object) -> Case:
    return Case("pixel_norm", what, shape, _nothing, options, core, wrt=("x",), third=third)


def _nothing(generator: object) -> Arguments:
    return {}


CASES = [
    _pixel_norm("channels", (2, 3, 5, 4), core=True),
    _pixel_norm("channels", (2, 300, 3, 2)),
    _pixel_norm("channels", (3, 40, 33, 17)),
    _pixel_norm("channels-large_eps", (2, 4, 3, 2), eps=0.5, third=True),
    *(_pixel_norm(f"dim_{dim}", (3, 2, 4, 5), dim=dim) for dim in (0, 2, -1)),
    _pixel_norm("latent", (4, 9), third=True),
    _pixel_norm("latent", (67, 129)),
    _pixel_norm("vector", (11,), dim=0),
    _pixel_norm("five_dimensions", (2, 3, 2, 2, 3)),
    _pixel_norm("one_channel", (3, 1, 5, 5), eps=1e-2),
    _pixel_norm("one_pixel", (2, 5, 1, 1)),
    _pixel_norm("empty_batch", (0, 4, 3, 3)),
    _pixel_norm("no_pixels", (2, 4, 0, 3)),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = tuple(rng.randint(1, 9) for _ in range(4))
    return _pixel_norm(name, shape, dim=rng.randint(-4, 3), eps=rng.choice([1e-8, 1e-2]))
