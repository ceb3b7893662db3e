"""squared_norms as Triton kernels: a partial sum per program, and a `torch.sum` over those; no atomics."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

BLOCK = 1024  # elements of a tile
TILES = 8  # that one program sums up


def squared_norms(x: torch.Tensor) -> torch.Tensor:
    """y[n] = sum of x[n]^2. Returns [N], float64 for float64, else float32."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    if x.numel() == 0:
        return x.new_zeros([x.shape[0]], dtype=wide)
    x = _dense(x)
    size = x.numel() // x.shape[0]
    parts = triton.cdiv(size, BLOCK * TILES)
    partial = x.new_empty([x.shape[0], parts], dtype=wide)
    with torch.cuda.device_of(x):
        squared_norms_fwd_kernel[(x.shape[0] * parts,)](
            x, partial, size, parts, TILES=TILES, BLOCK=BLOCK, ACC=_accumulator(x)
        )
    return partial.sum(1)


def squared_norms_backward(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dx[n] = 2 dy[n] x[n], of the dtype and strides of x."""
    cut_off = x.dtype == torch.bfloat16 and x.device.type == "cpu"  # by Triton's interpreter, which does not round
    like = torch.empty_like(x)
    if x.numel() == 0:
        return like
    x = _dense(x)
    dx = torch.empty_like(x, dtype=torch.float32 if cut_off else x.dtype)
    size = x.numel() // x.shape[0]
    parts = triton.cdiv(size, BLOCK)
    with torch.cuda.device_of(x):
        squared_norms_bwd_kernel[(x.shape[0] * parts,)](
            dy.contiguous(), x, dx, size, parts, BLOCK=BLOCK, ACC=_accumulator(x)
        )
    return dx if dx.dtype == like.dtype and dx.stride() == like.stride() else like.copy_(dx)


def _dense(x: torch.Tensor) -> torch.Tensor:
    """x with every sample one run of memory, contiguous or channels_last: x itself, or a copy."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return x if is_last else x.contiguous()


def _accumulator(x: torch.Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


@triton.jit
def squared_norms_fwd_kernel(
    x_ptr,
    partial_ptr,
    size,
    parts,
    TILES: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    x_ptr += program // parts * size
    total = tl.zeros([BLOCK], ACC)
    for i in range(TILES):
        at = (program % parts * TILES + i) * BLOCK + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + at, mask=at < size, other=0.0).to(ACC)
        total += x * x
    tl.store(partial_ptr + program, tl.sum(total, axis=0))


@triton.jit
def squared_norms_bwd_kernel(
    dy_ptr,
    x_ptr,
    dx_ptr,
    size,
    parts,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    sample = program // parts
    at = program % parts * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + sample * size + at, mask=at < size, other=0.0).to(ACC)
    dx = x * tl.load(dy_ptr + sample).to(ACC) * 2.0
    tl.store(dx_ptr + sample * size + at, dx.to(dx_ptr.dtype.element_ty), mask=at < size)
