"""The cases of squared_norms."""

from __future__ import annotations

import random

from case import Case


def _squared_norms(what: str, shape: tuple[int, ...], core: bool = False) -> Case:
    images = ("x",) if len(shape) == 4 else ()
    return Case("squared_norms", what, shape, lambda generator: {}, {}, core, images=images, third=core)


CASES = [
    _squared_norms("image", (2, 3, 5, 4), core=True),
    _squared_norms("latents", (3, 4, 5)),
    _squared_norms("numbers", (7,)),
    _squared_norms("kernels", (35, 9)),
    _squared_norms("one_pixel", (2, 3, 1, 1)),
    _squared_norms("pieces", (2, 3, 67, 131)),
    _squared_norms("empty_batch", (0, 3, 4, 5)),
    _squared_norms("no_channels", (2, 0, 4, 5)),
]


def random_case(rng: random.Random, name: str) -> Case:
    return _squared_norms(name, tuple(rng.randint(1, 9) for _ in range(4)))


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "channels_last or window or innermost",
    "test_functorch": "",
}
TOO_LARGE = "2x3x67x131"
