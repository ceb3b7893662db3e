"""The launches of the upfirdn2d kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import upfirdn2d as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _upfirdn2d(dtype: torch.dtype, layout: str, taps: list[int], up: int, down: int) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        pad = taps[-1] // 2
        module.upfirdn2d(x, torch.zeros(taps), up, up, down, down, pad, pad, pad, pad, False, 4.0)

    return call


CASES = {
    **{
        f"{taps}-up{up}-down{down}-bf16-{layout}": _upfirdn2d(torch.bfloat16, layout, taps, up, down)
        for taps, up, down in (([4, 4], 1, 1), ([4, 4], 2, 1), ([4, 4], 1, 2), ([12], 2, 1))
        for layout in LAYOUTS
    },
    "[24]-up4-down2-fp32": _upfirdn2d(torch.float32, "contiguous", [24], 4, 2),
    "[12, 12]-up1-down2-fp64": _upfirdn2d(torch.float64, "contiguous", [12, 12], 1, 2),
}
