"""The launches of the spectral_norm_batched kernels that are compiled ahead of time."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gankern.triton import spectral_norm_batched as module

SHAPES = ([64, 3, 3, 3], [128, 64, 3, 3], [1, 128], [2048, 20])


def _training(dtype: torch.dtype, with_v: bool) -> Callable[[], None]:
    def call() -> None:
        weights = [torch.zeros(shape, dtype=dtype) for shape in SHAPES]
        us = [torch.zeros([w.shape[0]]) for w in weights]
        vs = [torch.zeros([w[0].numel()]) for w in weights] if with_v else []
        uv, sigma = module.spectral_norm_batched_iterate(weights, us, vs, "v", 1e-12, 1, not with_v)
        ys, _ = module.spectral_norm_batched(weights, uv, sigma)
        module.spectral_norm_batched_backward(weights, ys, uv, sigma, sigma if with_v else None)

    return call


CASES = {
    **{name: _training(getattr(torch, name), False) for name in ("float64", "float32", "bfloat16", "float16")},
    "float32-eval": _training(torch.float32, True),
}
