"""The cases of conv2d and conv_transpose2d."""

from __future__ import annotations

import random
from typing import Any

import torch
from case import Arguments, Case

SMALL = (2, 4, 5, 4)


def _conv2d(
    what: str, shape: tuple[int, ...], weight: tuple[int, ...], core: bool = False, bias: bool = True, **options: Any
) -> Case:
    """`weight` is its shape. A transposed one has the output channels second."""
    op = "conv_transpose2d" if what.startswith("transposed") else "conv2d"

    def tensors(generator: torch.Generator) -> Arguments:
        out_channels = weight[1] * options.get("groups", 1) if op == "conv_transpose2d" else weight[0]
        w = torch.randn(weight, dtype=torch.float64, generator=generator) / (weight[1] * weight[2] * weight[3]) ** 0.5
        b = torch.randn(out_channels, dtype=torch.float64, generator=generator) if bias else None
        return {"weight": w, "bias": b}

    wrt = ("input", "weight", "bias")
    images, winograd = ("input",), 2e-5
    return Case(op, what, shape, tensors, options, core, "input", images, wrt, kernel="conv2d", of_largest=winograd)


CASES = [
    _conv2d("3x3", SMALL, (3, 4, 3, 3), core=True, padding=1),
    _conv2d("3x3-swish", (1, 2, 4, 4), (2, 2, 3, 3), core=True, padding=1, act="swish", gain=0.7),
    _conv2d("1x1-no_bias", SMALL, (3, 4, 1, 1), bias=False),
    _conv2d("3x2-stride_2_1", (1, 3, 6, 5), (2, 3, 3, 2), stride=[2, 1], padding=[1, 0], act="lrelu", clamp=3),
    _conv2d("3x3-stride_2-leftover_row", (1, 2, 6, 5), (2, 2, 3, 3), core=True, stride=2),
    _conv2d("3x3-groups", (2, 4, 4, 3), (6, 2, 3, 3), padding=2, groups=2),
    _conv2d("depthwise", (2, 3, 4, 4), (3, 1, 3, 3), padding=1, groups=3),
    _conv2d("dilated", (1, 2, 6, 6), (2, 2, 3, 2), dilation=[1, 3], padding=1),
    _conv2d("empty_batch", (0, 3, 4, 4), (2, 3, 3, 3), padding=1, act="lrelu"),
    _conv2d("larger", (2, 17, 13, 11), (19, 17, 3, 3), padding=1, act="lrelu"),
    _conv2d("3x3-of_many_tiles", (1, 33, 15, 17), (35, 33, 3, 3), core=True, padding=1),
    _conv2d("3x3-of_many_tiles-padding_2_0", (3, 32, 9, 14), (40, 32, 3, 3), padding=[2, 0], act="lrelu"),
    _conv2d("transposed-3x3-of_many_tiles", (2, 40, 11, 12), (40, 33, 3, 3), padding=1),
    _conv2d("transposed-3x3-stride_2", (1, 3, 4, 3), (3, 2, 3, 3), core=True, stride=2),
    _conv2d("3x3-stride_2-of_many_tiles", (2, 33, 23, 26), (35, 33, 3, 3), core=True, stride=2, padding=[0, 1]),
    _conv2d("transposed-3x3-stride_2-of_many_tiles", (2, 40, 11, 12), (40, 33, 3, 3), core=True, stride=2),
    _conv2d(
        "transposed-output_padding-of_many_tiles", (1, 32, 16, 15), (32, 34, 3, 3), stride=2, output_padding=[1, 0]
    ),
    _conv2d("transposed-output_padding", (1, 2, 3, 3), (2, 2, 3, 3), stride=2, padding=1, output_padding=[1, 0]),
    _conv2d("transposed-groups-tanh", (1, 4, 3, 3), (4, 2, 2, 2), stride=2, groups=2, act="tanh"),
]


def random_case(rng: random.Random, name: str) -> Case:
    groups = rng.choice([1, 1, 2])
    i, o = groups * rng.randint(1, 5), groups * rng.randint(1, 5)
    kernel, stride, dilation = ([rng.randint(1, n) for _ in range(2)] for n in (4, 3, 2))
    padding = [rng.randint(0, k) for k in kernel]
    shape = (rng.randint(0, 3), i, *(rng.randint(d * (k - 1) + 1, 12) for k, d in zip(kernel, dilation, strict=True)))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    bias = rng.random() < 0.5
    if rng.random() < 0.5:
        return _conv2d(
            name, shape, (o, i // groups, *kernel), bias=bias, act=rng.choice(["linear", "lrelu"]), **options
        )
    options["padding"] = [0, 0]
    return _conv2d(f"transposed_{name}", shape, (i, o // groups, *kernel), bias=bias, **options)
