"""The cases of bias_act."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from case import Arguments, Case

ACTIVATIONS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
SMOOTH = ("tanh", "sigmoid", "softplus", "swish")
IMAGE = (2, 3, 5, 4)


def _bias_act(what: str, shape: tuple[int, ...], bias: str | None = "b", core: bool = False, **options: Any) -> Case:
    def tensors(generator: torch.Generator) -> Arguments:
        if bias is None:
            return {"b": None}
        b = torch.randn(shape[options.get("dim", 1)], dtype=torch.float64, generator=generator)
        return {"b": b.float() if bias == "float32" else b}

    third = math.prod(shape) <= 200 and options.get("act") in SMOOTH
    return Case("bias_act", what, shape, tensors, options, core, third=third)


CASES = [
    *(_bias_act(act, IMAGE, act=act, core=act in ("lrelu", "swish")) for act in ACTIVATIONS),
    *(_bias_act(f"{act}-clamp", IMAGE, act=act, gain=1.7, clamp=0.8, core=act == "tanh") for act in ACTIVATIONS),
    *(_bias_act(f"{act}-gain_negative", (3, 7), act=act, gain=-0.6) for act in ACTIVATIONS),
    *(_bias_act(f"{act}-gain_0", (3, 7), act=act, gain=0.0, clamp=0.5) for act in ("relu", "tanh", "elu", "swish")),
    *(_bias_act(f"{act}-clamp_0", (3, 7), act=act, clamp=0.0) for act in ("linear", "lrelu", "softplus")),
    *(_bias_act(f"lrelu-alpha_{alpha}", (3, 7), act="lrelu", alpha=alpha) for alpha in (-0.5, 0.0, 1.5)),
    *(_bias_act(f"{act}-no_bias", IMAGE, None, act=act) for act in ("linear", "lrelu", "sigmoid", "swish")),
    *(_bias_act(f"{act}-bias_float32", (3, 7, 2, 2), "float32", act=act) for act in ("lrelu", "swish")),
    *(_bias_act(f"swish-dim_{dim}", (3, 2, 4, 5), dim=dim, act="swish") for dim in (0, 2, -1)),
    _bias_act("lrelu-dim_0", (11,), dim=0, act="lrelu"),
    _bias_act("linear-dim_0", (13,), dim=0),
    _bias_act("selu-five_dimensions", (2, 3, 2, 2, 3), act="selu"),
    _bias_act("softplus-one_channel", (3, 1, 5, 5), act="softplus"),
    _bias_act("tanh-one_pixel", (2, 5, 1, 1), act="tanh"),
    *(_bias_act(f"{act}-empty_batch", (0, 4, 3, 3), act=act) for act in ("lrelu", "swish")),
    _bias_act("sigmoid-no_channels", (2, 0, 3, 3), act="sigmoid"),
    *(_bias_act(act, (3, 7, 11, 13), act=act, clamp=1.0) for act in ("lrelu", "softplus", "swish")),
    *(_bias_act(act, (4, 64, 16, 16), act=act) for act in ("lrelu", "tanh")),
    _bias_act("lrelu", (67, 129), act="lrelu"),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = tuple(rng.randint(1, 9) for _ in range(4))
    gain = rng.choice([None, rng.uniform(-2, 2)])
    clamp = rng.choice([None, None, 1e3])  # beside a clamp in reach, rounding decides which gradients are zero
    act = rng.choice(ACTIVATIONS)
    return _bias_act(name, shape, rng.choice(["b", "b", "float32", None]), act=act, gain=gain, clamp=clamp)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32 or (fp64 and swish)",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and (lrelu or swish)",
    "test_an_r1_penalty and fp64": None,
    "test_inputs_only": None,
    "test_gradients_stay_on_the_backend": "swish",
    "test_strides_change_nothing": "swish and (channels_last or window)",
    "test_an_expanded_gradient": "swish and over_pixels",
    "test_functorch": "tanh-clamp",
}
TOO_LARGE = "4x64x16x16 or 67x129 or 3x7x11x13"
