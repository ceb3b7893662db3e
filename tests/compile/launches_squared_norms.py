"""The launches of the squared_norms kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import squared_norms as module


def _squared_norms(dtype: torch.dtype) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros([4, 3, 64, 64], dtype=dtype)
        module.squared_norms(x)
        module.squared_norms_backward(torch.zeros([4], dtype=torch.promote_types(dtype, torch.float32)), x)

    return call


CASES = {name: _squared_norms(getattr(torch, name)) for name in ("float64", "float32", "bfloat16", "float16")}
