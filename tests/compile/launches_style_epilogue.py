"""The launches of the style_epilogue kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import style_epilogue as module

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def _style_epilogue(dtype: torch.dtype, layout: str, given: bool) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        style = torch.zeros([2, 32])
        own = style if given else None
        tail = (torch.zeros([2, 1, 48, 64]), torch.zeros([32]), torch.zeros([32])) if given else (None,) * 3
        numbers = (0.2, 1.0, 1e-8)
        module.style_epilogue(x, *tail, own, own, *numbers)
        module.style_epilogue_backward(x, x, *tail, own, style, style, *numbers, given)
        module.style_epilogue_backward_backward(x, own, own, x, x, *tail, own, style, style, *numbers, given)

    return call


CASES = {
    f"{name}-{layout}-{'everything' if given else 'nothing'}": _style_epilogue(dtype, layout, given)
    for name, dtype, given in (("bf16", torch.bfloat16, True), ("fp32", torch.float32, False))
    for layout in LAYOUTS
}
