"""What the machine can do at most, measured in the same run as the figures: the rate of a copy and of a product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

COPY_BYTES = {"cpu": 256 * 2**20, "cuda": 2**30}  # several times any cache
MATRIX = {"cpu": 2048, "cuda": 8192}
ROUNDS = 7


def ceilings(device: str) -> dict[str, float]:
    """Medians: `copy_gb_per_s`, read and written; `matmul_gflops_fp32` (without TF32) and `_bf16`, on random data."""
    source = torch.ones(COPY_BYTES[device] // 4, device=device)
    copy = partial(torch.empty_like(source).copy_, source)
    found = {"copy_gb_per_s": 2 * source.nbytes / seconds(copy, device) / 1e9}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        n = MATRIX[device]
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        found[f"matmul_gflops_{name}"] = 2 * n**3 / seconds(partial(torch.matmul, a, b), device) / 1e9
    return {name: round(value, 1) for name, value in found.items()}


def seconds(call: Callable[[], object], device: str) -> float:
    """Median time of a call, after two to warm up; on a GPU with its end waited for."""
    times = []
    for _ in range(ROUNDS + 2):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])
