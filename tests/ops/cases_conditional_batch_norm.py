"""The cases of conditional_batch_norm."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case

IMAGE = (3, 3, 4, 3)


def _batch_norm(what: str, shape: tuple[int, ...], core: bool = False, affine: str = "", **options: Any) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        c = shape[1]
        sizes = [c] if affine == "per_channel" else [shape[0], c]
        gain, bias = (torch.randn(sizes, dtype=torch.float64, generator=generator) for _ in range(2))
        gain = gain + 1
        if affine == "float32":
            gain, bias = gain.float(), bias.float()
        mean, var = torch.linspace(-0.5, 0.5, c), torch.linspace(0.5, 2, c)
        known = {} if options.get("training", True) else {"running_mean": mean, "running_var": var}
        return {"gain": gain, "bias": bias, **known}

    wrt, third = ("x", "gain", "bias"), what.startswith("third")
    return Case("conditional_batch_norm", what, shape, tensors, options, core, wrt=wrt, third=third)


CASES = [
    _batch_norm("plain", IMAGE),
    _batch_norm("relu", IMAGE, core=True, act="relu"),
    _batch_norm("up", IMAGE, up=2),
    _batch_norm("third-eval", (1, 2, 2, 2), affine="per_channel", training=False, up=2),
    _batch_norm("relu-up", (2, 3, 3, 5), core=True, act="relu", up=2),
    _batch_norm("eval", IMAGE, training=False, act="relu"),
    _batch_norm("eval-up", (2, 3, 3, 5), core=True, training=False, act="relu", up=2),
    _batch_norm("per_channel", IMAGE, affine="per_channel", eps=0.1, act="relu"),
    _batch_norm("float32", IMAGE, affine="float32"),
    _batch_norm("one_pixel", (5, 4, 1, 1), act="relu"),
    _batch_norm("one_channel", (2, 1, 3, 3), act="relu", up=2),
    _batch_norm("one_image", (1, 3, 5, 4), act="relu"),
    _batch_norm("empty_batch", (0, 3, 4, 4), act="relu", up=2),
    _batch_norm("no_channels", (2, 0, 4, 4), act="relu"),
    _batch_norm("relu", (2, 21, 15, 37), act="relu"),
    _batch_norm("relu-up", (3, 65, 17, 16), act="relu", up=2),
    _batch_norm("eval", (3, 65, 17, 16), training=False, act="relu"),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 5), rng.randint(1, 20), rng.randint(2, 20), rng.randint(1, 20))
    affine = rng.choice(["", "per_channel", "float32"])
    # Beside a relu, rounding decides which gradients are zero.
    return _batch_norm(name, shape, affine=affine, up=rng.choice([1, 2]), training=rng.choice([True, False]))


TOO_LARGE = "2x21x15x37 or 3x65x17x16"
INTERPRETED = {
    "test_equals_the_float64_reference": "fp32 and (relu or one_pixel or empty)",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and relu-up",
    "test_gradients_stay_on_the_backend": "relu-up",
    "test_strides_change_nothing": "relu-up and channels_last",
    "test_an_expanded_gradient": "relu-up and over_pixels",
    "test_functorch": "eval",
}
