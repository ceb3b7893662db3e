"""The launches of the bias_act kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import bias_act as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
ACTIVATIONS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")


def _bias_act(dtype: torch.dtype, layout: str, act: str, clamp: float | None, bias: bool = True) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        b = torch.zeros([32]) if bias else None
        module.bias_act(x, b, 1, act, 0.2, 1.4, clamp)
        ref = None if act == "linear" and clamp is None else x
        module.bias_act_backward(x, ref, b, 1, act, 0.2, 1.4, clamp, bias)

    return call


CASES = {
    **{f"{act}-bf16": _bias_act(torch.bfloat16, "contiguous", act, 1.0) for act in ACTIVATIONS},
    **{f"{act}-fp64": _bias_act(torch.float64, "channels_last", act, 1.0) for act in ("softplus", "swish")},
    "lrelu-fp16-channels_last": _bias_act(torch.float16, "channels_last", "lrelu", None),
    "swish-fp32-channels_last": _bias_act(torch.float32, "channels_last", "swish", None),
    "linear-fp32-no_bias": _bias_act(torch.float32, "contiguous", "linear", None, bias=False),
}
