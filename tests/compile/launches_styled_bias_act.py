"""The launches of the styled_bias_act kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import styled_bias_act as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _tail(dtype: torch.dtype, layout: str, act: str, clamp: float | None) -> Callable[[], None]:
    """Everything given and every gradient wanted."""

    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        small = torch.float64 if dtype == torch.float64 else torch.float32
        scale, b, strength = (torch.zeros(shape, dtype=small) for shape in ([2, 32], [32], [32]))
        noise = torch.zeros([2, 1, 48, 64], dtype=small)
        options = (act, 0.2, 1.4, clamp)
        module.styled_bias_act(x, scale, noise, strength, b, *options)
        if act in ("linear", "relu", "lrelu"):
            module.styled_bias_act_backward(x, x, x, scale, noise, *options, True)
            tangents = (x, scale, scale, scale)
            module.styled_bias_act_backward_backward(x, x, x, scale, noise, *tangents, *options, True, True)

    return call


def _modulation(dtype: torch.dtype, layout: str) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        scale = torch.zeros([2, 32])
        options = ("linear", 0.0, 1.0, None)
        module.styled_bias_act(x, scale, None, None, None, *options)
        module.styled_bias_act_backward(x, None, x, scale, None, *options, False)
        tangents = (x, scale, None, None)
        module.styled_bias_act_backward_backward(x, None, x, scale, None, *tangents, *options, True, True)

    return call


CASES = {
    **{f"lrelu-bf16-{layout}": _tail(torch.bfloat16, layout, "lrelu", 1.0) for layout in LAYOUTS},
    **{f"modulation-bf16-{layout}": _modulation(torch.bfloat16, layout) for layout in LAYOUTS},
    "swish-bf16": _tail(torch.bfloat16, "contiguous", "swish", 1.0),
    "relu-fp32": _tail(torch.float32, "contiguous", "relu", None),
    "linear-fp64-channels_last": _tail(torch.float64, "channels_last", "linear", 1.0),
    "softplus-fp16-channels_last": _tail(torch.float16, "channels_last", "softplus", None),
}
