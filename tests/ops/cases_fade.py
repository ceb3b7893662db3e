"""The cases of fade and fade_detail."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case


def _fade(what: str, shape: tuple[int, ...], half: bool = True, alpha: float | None = None, core: bool = False) -> Case:
    """alpha None is a tensor with a gradient."""

    def tensors(generator: torch.Generator) -> Arguments:
        n, c, h, w = shape
        size = (n, c, h // 2, w // 2) if half else shape
        old = torch.randn(size, dtype=torch.float64, generator=generator)
        return {"old": old, **_tensor(alpha)}

    wrt = ("new", "old", "alpha")
    return Case("fade", what, shape, tensors, _number(alpha), core, "new", ("new", "old"), wrt)


def _detail(what: str, shape: tuple[int, ...], alpha: float | None = None, core: bool = False) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        return _tensor(alpha)

    return Case("fade_detail", what, shape, tensors, _number(alpha), core, wrt=("x", "alpha"), kernel="fade")


def _tensor(alpha: float | None) -> Arguments:
    return {"alpha": torch.tensor(0.375)} if alpha is None else {}  # a number that every dtype has


def _number(alpha: float | None) -> dict[str, Any]:
    return {} if alpha is None else {"alpha": alpha}


CASES = [
    _fade("half", (2, 3, 4, 6), core=True),
    _fade("same", (2, 3, 3, 5), half=False, core=True),
    _fade("half-number", (2, 3, 4, 2), alpha=0.7),
    _fade("same-number", (2, 3, 4, 2), half=False, alpha=-0.2),
    _fade("half-alpha_0", (2, 3, 4, 2), alpha=0.0),
    _fade("half-alpha_1", (2, 3, 4, 2), alpha=1.0),
    _fade("half-wide", (1, 2, 6, 38), alpha=0.25),
    _fade("half-many_channels", (1, 37, 4, 2), alpha=0.25),
    _fade("half-empty_batch", (0, 3, 4, 4), alpha=0.5),
    _fade("same-no_channels", (2, 0, 4, 4), half=False, alpha=0.5),
    _detail("image", (2, 3, 4, 6), core=True),
    _detail("number", (1, 2, 6, 38), 0.25),
    _detail("two_pixels", (1, 1, 2, 2), 0.5),
    _detail("empty_batch", (0, 3, 4, 4), 0.5),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 3), rng.randint(1, 9), 2 * rng.randint(1, 6), 2 * rng.randint(1, 6))
    alpha = rng.choice([None, rng.random()])
    return _detail(name, shape, alpha) if rng.random() < 0.3 else _fade(name, shape, rng.random() < 0.6, alpha)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and (image or half or same)",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "channels_last or window",
    "test_an_expanded_gradient": "over_pixels",
    "test_functorch": "",
}
