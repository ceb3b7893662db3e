"""The launches of the fade kernel that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import fade as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _fade(dtype: torch.dtype, layout: str, scale: int, tensor: bool = True) -> Callable[[], None]:
    """`scale` is how many times larger new is; 0 for no old one."""

    def call() -> None:
        new = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        alpha = torch.zeros([]) if tensor else None
        old = new[:, :, : 48 // scale, : 64 // scale] if scale else None
        module.fade(new, old, alpha, 0.5)
        if scale:
            module.fade_backward(new, alpha, 0.5, scale == 2)

    return call


CASES = {
    **{f"half-bf16-{layout}": _fade(torch.bfloat16, layout, 2) for layout in LAYOUTS},
    "half-fp32-number": _fade(torch.float32, "contiguous", 2, tensor=False),
    "same-fp16": _fade(torch.float16, "channels_last", 1),
    "same-fp64": _fade(torch.float64, "contiguous", 1),
    "detail-fp32": _fade(torch.float32, "contiguous", 0),
}
