"""The launches of upsample_add that are compiled ahead of time; its kernel is that of upfirdn2d."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import upfirdn2d
from gankern.triton.upsample_add import upsample_add

module = upfirdn2d
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _upsample_add(of_x: torch.dtype, of_y: torch.dtype, layout: str) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 3, 48, 64], dtype=of_x)
        y = torch.zeros([2, 3, 96, 128], dtype=of_y).contiguous(memory_format=LAYOUTS[layout])
        upsample_add(x, y, torch.zeros([4, 4]), 2, 2, 2, 1, 2, 1, False, 4.0)

    return call


CASES = {
    "fp32-bf16-channels_last": _upsample_add(torch.float32, torch.bfloat16, "channels_last"),
    "fp32-fp32-contiguous": _upsample_add(torch.float32, torch.float32, "contiguous"),
    "fp64-fp64-contiguous": _upsample_add(torch.float64, torch.float64, "contiguous"),
}
