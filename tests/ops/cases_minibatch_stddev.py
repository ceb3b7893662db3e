"""The cases of minibatch_stddev."""

from __future__ import annotations

import random
from typing import Any

from case import Case


def _case(what: str, shape: tuple[int, ...], third: bool = False, **options: Any) -> Case:
    core = options.pop("core", False)
    return Case("minibatch_stddev", what, shape, lambda generator: {}, options, core, third=third, wrt=("x",))


CASES = [
    _case("strided", (4, 3, 3, 2), group_size=2, core=True),
    _case("contiguous-unbiased", (4, 4, 3, 2), group_size=2, num_channels=2, grouping="contiguous", unbiased=True),
    _case("two_channels", (4, 4, 2, 3), group_size=4, num_channels=2, third=True, core=True),
    _case("whole_batch", (3, 2, 2, 2), group_size=None, unbiased=True),
    _case("small_batch", (2, 3, 2, 1), group_size=4),
    _case("one_sample_a_group", (2, 4, 2, 2), group_size=1, unbiased=True),
    _case("channel_by_channel", (4, 5, 3, 3), group_size=2, num_channels=5),
    _case("one_channel", (4, 1, 3, 5), group_size=2),
    _case("one_pixel", (6, 5, 1, 1), group_size=3),
    _case("empty_batch", (0, 4, 3, 3), num_channels=2),
    _case("more_than_a_chunk", (4, 33, 9, 11), group_size=2, num_channels=3),
    _case("layer", (8, 96, 4, 4)),
]


def random_case(rng: random.Random, name: str) -> Case:
    groups, group_size, num_channels = rng.randint(1, 3), rng.randint(2, 5), rng.randint(1, 3)
    shape = (groups * group_size, num_channels * rng.randint(1, 5), rng.randint(1, 9), rng.randint(1, 9))
    options = {"grouping": rng.choice(["strided", "contiguous"]), "unbiased": rng.random() < 0.5}
    return _case(name, shape, group_size=group_size, num_channels=num_channels, **options)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "two_channels and (channels_last or window)",
    "test_an_expanded_gradient": "two_channels and over_pixels",
}
