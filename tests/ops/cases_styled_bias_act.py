"""The cases of styled_bias_act, and of noise_injection, which is its kernel."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case
from cases_bias_act import ACTIVATIONS

IMAGE = (2, 3, 5, 4)
EVERYTHING = ("scale", "noise", "strength", "b")
WRT = ("x", *EVERYTHING)


def _styled(
    what: str,
    shape: tuple[int, ...] = IMAGE,
    given: tuple[str, ...] = EVERYTHING,
    core: bool = False,
    float32: bool = False,
    constants: tuple[str, ...] = (),
    **options: Any,
) -> Case:
    """`given` names the tensors; noise_hw and noise_1 are noise [H, W] and [1, 1, H, W], strength_c is one [C].
    `constants` are those of them that have no gradient."""
    n, c, h, w = shape
    shapes: dict[str, tuple[int, ...]] = {
        "scale": (n, c),
        "noise": (n, 1, h, w),
        "noise_1": (1, 1, h, w),
        "noise_hw": (h, w),
        "strength": (),
        "strength_c": (c,),
        "b": (c,),
    }

    def tensors(generator: torch.Generator) -> Arguments:
        values = {name: torch.randn(shapes[name], dtype=torch.float64, generator=generator) for name in given}
        return {name.split("_")[0]: v.float() if float32 else v for name, v in values.items()}

    wrt = tuple(name for name in WRT if name not in constants)
    return Case("styled_bias_act", what, shape, tensors, options, core, wrt=wrt)


def _noise_injection(what: str, shape: tuple[int, ...], strength: tuple[int, ...] | float) -> Case:
    n, _, h, w = shape

    def tensors(generator: torch.Generator) -> Arguments:
        noise = torch.randn([n, 1, h, w], dtype=torch.float64, generator=generator)
        if not isinstance(strength, tuple):
            return {"noise": noise}
        return {"noise": noise, "strength": torch.randn(strength, dtype=torch.float64, generator=generator)}

    options = {} if isinstance(strength, tuple) else {"strength": strength}
    wrt = ("x", "noise", "strength")
    return Case("noise_injection", what, shape, tensors, options, wrt=wrt, kernel="styled_bias_act")


CASES = [
    *(_styled(act, act=act, clamp=1.3, core=act in ("lrelu", "swish")) for act in ACTIVATIONS),
    *(_styled(f"{act}-no_clamp", (2, 3, 2, 3), act=act, gain=-0.7) for act in ("linear", "relu", "lrelu", "sigmoid")),
    _styled("modulation", given=("scale",), core=True),
    _styled("modulation", (2, 5, 1, 1), given=("scale",)),
    _styled("scale-clamp", (2, 3, 3, 2), given=("scale",), clamp=0.9),
    _styled("noise-no_strength", (2, 3, 3, 2), given=("noise",), act="lrelu"),
    _styled("noise_hw-strength_c", (2, 3, 3, 2), ("scale", "noise_hw", "strength_c"), act="lrelu"),
    _styled("noise_1-strength_c", (2, 3, 3, 2), ("noise_1", "strength_c", "b"), act="relu"),
    _styled("constant_noise", (2, 3, 3, 2), constants=("noise",), act="lrelu", clamp=1.0),
    _styled("constant_scale", (2, 3, 3, 2), constants=("scale",), act="lrelu"),
    _styled("bias_alone", (2, 3, 3, 2), ("b",), act="lrelu", clamp=0.7),
    _styled("alpha_negative", (2, 3, 3, 2), act="lrelu", alpha=-0.5),
    _styled("gain_0", (2, 3, 2, 2), act="lrelu", gain=0.0),
    _styled("clamp_0", (2, 3, 2, 2), act="lrelu", clamp=0.0),
    *(_styled(f"{act}-float32", (2, 3, 3, 2), float32=True, act=act) for act in ("lrelu", "tanh")),
    _styled("one_channel", (3, 1, 3, 5), act="lrelu"),
    _styled("empty_batch", (0, 3, 3, 5), act="lrelu"),
    _styled("no_channels", (2, 0, 3, 5), ("scale", "b"), act="lrelu"),
    *(_styled(act, (3, 7, 11, 13), act=act, clamp=2.0) for act in ("lrelu", "softplus")),
    _styled("modulation", (3, 70, 9, 7), given=("scale",)),
    _styled("lrelu", (2, 70, 9, 7), act="lrelu"),
    _noise_injection("scalar", (2, 3, 3, 2), ()),
    _noise_injection("per_channel", (2, 3, 3, 2), (3,)),
    _noise_injection("number", (2, 3, 3, 2), 0.7),
]


def random_case(rng: random.Random, name: str) -> Case:
    shape = tuple(rng.randint(1, 9) for _ in range(4))
    noise = rng.choice([(), ("noise",), ("noise_1", "strength"), ("noise_hw", "strength_c"), ("noise", "strength_c")])
    given = (*(("scale",) if rng.random() < 0.7 else ()), *noise, *(("b",) if rng.random() < 0.7 else ()))
    gain = rng.choice([None, rng.uniform(-2, 2)])
    clamp = rng.choice([None, None, 1e3])  # beside a clamp in reach, rounding decides which gradients are zero
    options = {"act": rng.choice([*ACTIVATIONS, "lrelu", "lrelu", "linear"]), "gain": gain, "clamp": clamp}
    return _styled(name, shape, given, float32=rng.random() < 0.3, **options)


INTERPRETED = {
    "test_equals_the_float64_reference": "fp32 or (fp64 and lrelu-2x3x5x4)",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and (lrelu-2x3x5x4 or modulation)",
    "test_gradients_stay_on_the_backend": "lrelu",
    "test_strides_change_nothing": "lrelu and (channels_last or window)",
    "test_an_expanded_gradient": "lrelu and over_pixels",
    "test_functorch": "modulation",
}
TOO_LARGE = "3x7x11x13 or 9x7 or gain_0 or clamp_0 or float32 or no_clamp or elu or tanh or sigmoid or softplus"
