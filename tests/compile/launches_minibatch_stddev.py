"""The launches of the minibatch_stddev kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import minibatch_stddev as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _call(dtype: torch.dtype, layout: str, group_size: int, num_channels: int, contiguous: bool) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([16, 96, 12, 8], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        dy = torch.zeros([16, 96 + num_channels, 12, 8], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        options = (group_size, num_channels, contiguous, contiguous)
        module.minibatch_stddev(x, *options)
        module.minibatch_stddev_backward(dy, x, *options)
        module.minibatch_stddev_backward_backward(x, dy, x, *options)

    return call


CASES = {
    "bf16-channels_last": _call(torch.bfloat16, "channels_last", 4, 1, False),
    "fp16-contiguous": _call(torch.float16, "contiguous", 4, 2, False),
    "fp32-contiguous_groups": _call(torch.float32, "contiguous", 16, 1, True),
    "fp64-channels_last": _call(torch.float64, "channels_last", 8, 2, True),
}
