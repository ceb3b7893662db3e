"""pixel_norm as Triton kernels.

Memory is seen as [outer, channels, inner]. A program has some positions (outer, inner) and walks over their channels
twice, in blocks: it sums, and it writes; where all channels are one block, they stay in registers in between.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _accumulator, _laid_out_as, _written_as

BLOCK = 2048  # elements of a tile


def pixel_norm(x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """y = r * x with r = 1 / sqrt(mean(x^2) + eps); arguments as in `gankern.pixel_norm`, all given."""
    y = torch.empty_like(x, dtype=_written_as(x))
    _launch(0, (x, None, None), (y, None), dim, eps)
    return y.to(x.dtype)


def pixel_norm_backward(dy: torch.Tensor, x: torch.Tensor, dim: int, eps: float) -> torch.Tensor:
    """dx = r * (dy - y * mean(dy * y))"""
    dx = torch.empty_like(x, dtype=_written_as(x))
    _launch(1, (x, dy, None), (dx, None), dim, eps)
    return dx.to(x.dtype)


def pixel_norm_backward_backward(
    ddx: torch.Tensor, dy: torch.Tensor, x: torch.Tensor, dim: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of <ddx, pixel_norm_backward(dy, x)> to dy and x."""
    ddy, grad_x = (torch.empty_like(x, dtype=_written_as(x)) for _ in range(2))
    _launch(2, (x, dy, ddx), (ddy, grad_x), dim, eps)
    return ddy.to(x.dtype), grad_x.to(x.dtype)


def _launch(
    order: int,
    inputs: tuple[torch.Tensor | None, ...],
    outputs: tuple[torch.Tensor | None, ...],
    dim: int,
    eps: float,
) -> None:
    y = outputs[0]
    if y is None or y.numel() == 0:
        return
    channels, inner = y.shape[dim], 1
    for d in range(y.ndim):
        if d != dim and y.stride(d) < y.stride(dim):
            inner *= y.shape[d]
    positions = y.numel() // channels
    inner = inner if channels > 1 else positions  # the stride of one channel says nothing
    # Neighbours in memory side by side: channels if inner is 1, else positions, 32 at least for whole lines of memory.
    wide = min(triton.next_power_of_2(channels), BLOCK if inner == 1 else BLOCK // 32)
    block = min(triton.next_power_of_2(positions), max(1, BLOCK // wide))
    with torch.cuda.device_of(y):
        pixel_norm_kernel[(triton.cdiv(positions, block),)](
            *(None if t is None else _laid_out_as(t, y) for t in inputs),
            *outputs,
            positions,
            channels,
            inner,
            1 / channels,
            eps,
            ORDER=order,
            BLOCKS=triton.cdiv(channels, wide),
            CHANNELS=wide,
            POSITIONS=block,
            ACC=_accumulator(y),
        )


@triton.jit
def pixel_norm_kernel(
    x_ptr,
    dy_ptr,
    ddx_ptr,
    first_ptr,
    second_ptr,
    positions,
    channels,
    inner,
    share: tl.float64,
    eps: tl.float64,
    ORDER: tl.constexpr,
    BLOCKS: tl.constexpr,
    CHANNELS: tl.constexpr,
    POSITIONS: tl.constexpr,
    ACC: tl.constexpr,
):
    position = tl.program_id(0).to(tl.int64) * POSITIONS + tl.arange(0, POSITIONS)
    start = (position // inner) * inner * channels + position % inner  # [POSITIONS], of channel 0
    c = tl.arange(0, CHANNELS)
    at = start[:, None] + c[None, :].to(tl.int64) * inner
    inside = (position < positions)[:, None] & (c < channels)[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
    dy = x
    ddx = x
    if ORDER >= 1:
        dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC)
    if ORDER == 2:
        ddx = tl.load(ddx_ptr + at, mask=inside, other=0.0).to(ACC)
    xx = x * x
    xg = x * dy
    xh = x * ddx
    gh = dy * ddx
    for block in range(1, BLOCKS):
        further = at + block * CHANNELS * inner
        mask = (position < positions)[:, None] & (c + block * CHANNELS < channels)[None, :]
        a = tl.load(x_ptr + further, mask=mask, other=0.0).to(ACC)
        xx += a * a
        if ORDER >= 1:
            g = tl.load(dy_ptr + further, mask=mask, other=0.0).to(ACC)
            xg += a * g
            if ORDER == 2:
                h = tl.load(ddx_ptr + further, mask=mask, other=0.0).to(ACC)
                xh += a * h
                gh += g * h
    n = tl.full((), share, ACC)
    r = 1.0 / tl.sqrt(tl.sum(xx, axis=1) * n + tl.full((), eps, ACC))  # [POSITIONS]
    cube = r * r * r
    of_x = r
    of_dy = r
    of_ddx = r
    if ORDER >= 1:
        of_ddx = -cube * tl.sum(xg, axis=1) * n
        of_x = of_ddx
    if ORDER == 2:
        of_dy = -cube * tl.sum(xh, axis=1) * n
        of_x = 3.0 * of_ddx * of_dy / r - cube * tl.sum(gh, axis=1) * n
    for block in range(BLOCKS):
        further = at + block * CHANNELS * inner
        mask = (position < positions)[:, None] & (c + block * CHANNELS < channels)[None, :]
        if BLOCKS > 1:
            x = tl.load(x_ptr + further, mask=mask, other=0.0).to(ACC)
            if ORDER >= 1:
                dy = tl.load(dy_ptr + further, mask=mask, other=0.0).to(ACC)
            if ORDER == 2:
                ddx = tl.load(ddx_ptr + further, mask=mask, other=0.0).to(ACC)
        if ORDER == 0:
            first = of_x[:, None] * x
        elif ORDER == 1:
            first = r[:, None] * dy + of_x[:, None] * x
        else:
            first = r[:, None] * ddx + of_dy[:, None] * x
            second = of_x[:, None] * x + of_dy[:, None] * dy + of_ddx[:, None] * ddx
            tl.store(second_ptr + further, second.to(second_ptr.dtype.element_ty), mask=mask)
        tl.store(first_ptr + further, first.to(first_ptr.dtype.element_ty), mask=mask)
