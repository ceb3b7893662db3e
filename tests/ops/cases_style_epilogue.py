"""The cases of style_epilogue, and of adain, which its kernels compute."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case

IMAGE = (2, 3, 5, 4)
INTERPRETED = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and everything",
    "test_derivatives_are_right_to_second_order": "tiny",
    "test_gradients_stay_on_the_backend": "everything",
    "test_strides_change_nothing": "everything and channels_last",
    "test_an_expanded_gradient": "everything and over_pixels",
    "test_functorch": "everything",
}
TOO_LARGE = "4x70 or 2x131"

ALL = ("noise", "strength", "b", "scale", "shift")
NOISE = {"plane": lambda n, h, w: (h, w), "shared": lambda n, h, w: (1, 1, h, w), "each": lambda n, h, w: (n, 1, h, w)}


def _style(
    what: str,
    shape: tuple[int, ...],
    given: tuple[str, ...] = ALL,
    noise: str = "each",
    per_channel: bool = True,
    float32: bool = False,
    core: bool = False,
    third: bool = False,
    op: str = "style_epilogue",
    **options: Any,
) -> Case:
    n, c, h, w = shape
    shapes = {
        "noise": NOISE[noise](n, h, w),
        "strength": (c,) if per_channel else (),
        "b": (c,),
        "scale": (n, c),
        "shift": (n, c),
    }

    def tensors(generator: torch.Generator) -> Arguments:
        made = {name: torch.randn(shapes[name], dtype=torch.float64, generator=generator) for name in given}
        return {name: tensor.float() if float32 else tensor for name, tensor in made.items()}

    return Case(op, what, shape, tensors, options, core, wrt=("x", *ALL), kernel="style_epilogue", third=third)


def _adain(what: str, shape: tuple[int, ...], given: tuple[str, ...] = ("scale", "shift"), **rest: Any) -> Case:
    return _style(what, shape, given, op="adain", **rest)


CASES = [
    _style("everything", IMAGE, core=True),
    _style("shared_noise", (2, 2, 3, 4), noise="shared", per_channel=False),
    _style("plane_of_noise", (1, 2, 5, 3), noise="plane", act="relu", gain=1.5),
    _style("noise_without_strength", (2, 2, 3, 3), ("noise", "scale"), act="linear"),
    _style("strength_only", (2, 2, 3, 4), ("noise", "strength")),
    _style("bias_only", (2, 3, 4, 3), ("b",), alpha=0.5, gain=-0.7),
    _style("nothing", (2, 3, 4, 3), (), alpha=-0.3),
    _style("large_eps", (1, 2, 3, 4), eps=0.5, third=True),
    _style("float32_parameters", (2, 3, 8, 9), float32=True),
    _style("several_blocks", (2, 3, 37, 41)),
    _style("several_blocks", (2, 131, 12, 4)),
    _style("tiny", (1, 2, 2, 2), eps=0.1),
    _style("empty_batch", (0, 3, 4, 4)),
    _adain("scale_and_shift", IMAGE, core=True),
    _adain("scale", (2, 3, 4, 4), ("scale",)),
    _adain("neither", (2, 3, 4, 4), ()),
    _adain("large_eps", (1, 2, 3, 3), third=True, eps=0.5),
    _adain("one_channel", (2, 1, 5, 5)),
    _adain("float32_style", (2, 3, 8, 8), float32=True),
    _adain("many_channels", (4, 70, 5, 3)),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = (rng.randint(1, 4), rng.randint(1, 80), rng.randint(2, 12), rng.randint(2, 12))
    given = tuple(name for name in ALL if rng.random() < 0.7)
    given = given if "noise" in given else tuple(name for name in given if name != "strength")
    return _style(
        name,
        shape,
        given,
        noise=rng.choice(list(NOISE)),
        per_channel=rng.random() < 0.5,
        float32=rng.random() < 0.5,
        act=rng.choice(["linear", "relu", "lrelu"]),
        eps=rng.choice([1e-8, 1e-2]),
    )
