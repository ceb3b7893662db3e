"""The launches of the grid_sample kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import grid_sample as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _grid_sample(dtype: torch.dtype, layout: str, channels: int) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, channels, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        grid = torch.zeros([2, 48, 64, 2])
        module.grid_sample(x, grid, False)
        module.grid_sample_backward(x, x, grid, 48, 64, layout == "channels_last", False, True)

    return call


CASES = {
    **{
        f"{channels}-{layout}-bf16": _grid_sample(torch.bfloat16, layout, channels)
        for channels in (3, 64)
        for layout in LAYOUTS
    },
    "3-contiguous-fp32": _grid_sample(torch.float32, "contiguous", 3),
    "64-channels_last-fp64": _grid_sample(torch.float64, "channels_last", 64),
}
