"""The launches of the conditional_batch_norm kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import conditional_batch_norm as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _batch_norm(dtype: torch.dtype, layout: str, relu: bool, up: int) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 32, 16, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        total = torch.float64 if dtype == torch.float64 else torch.float32
        gain = torch.zeros([2, 32], dtype=total)
        y, statistics = module.conditional_batch_norm(x, gain, gain, None, None, 1e-5, relu, up, True, "")
        for second in ((None, None, None), (x, gain, gain)):
            module.conditional_batch_norm_backward_combine(y, x, gain, gain, statistics, *second, None, relu, up, True)

    return call


CASES = {
    "relu-up-bf16": _batch_norm(torch.bfloat16, "contiguous", True, 2),
    "relu-up-bf16-channels_last": _batch_norm(torch.bfloat16, "channels_last", True, 2),
    "plain-fp32-channels_last": _batch_norm(torch.float32, "channels_last", False, 1),
    "relu-fp16": _batch_norm(torch.float16, "contiguous", True, 1),
    "relu-up-fp64": _batch_norm(torch.float64, "channels_last", True, 2),
}
