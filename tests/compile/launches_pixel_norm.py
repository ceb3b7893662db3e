"""The launches of the pixel_norm kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import pixel_norm as module


def _pixel_norm(dtype: torch.dtype, shape: list[int], channels_last: bool = False) -> Callable[[], None]:
    def call() -> None:
        x = torch.zeros(shape, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        module.pixel_norm(x, 1, 1e-8)
        module.pixel_norm_backward(x, x, 1, 1e-8)
        module.pixel_norm_backward_backward(x, x, x, 1, 1e-8)

    return call


CASES = {
    "bf16": _pixel_norm(torch.bfloat16, [2, 32, 48, 64]),
    "fp32-many_channels": _pixel_norm(torch.float32, [2, 512, 16, 16]),
    "fp16-channels_last": _pixel_norm(torch.float16, [2, 512, 16, 16], channels_last=True),
    "fp32-latent": _pixel_norm(torch.float32, [64, 512]),
}
