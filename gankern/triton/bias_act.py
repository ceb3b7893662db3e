"""bias_act as Triton kernels.

Memory is seen as a matrix: rows of channels where the channels are neighbours (channels_last), else rows that each are
one plane of one channel. 16-bit numbers become float32 as soon as they are loaded. The bias gradient is a partial sum
per program and a `torch.sum` over those: no atomics, so two runs agree bit for bit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

BLOCK = 1024  # elements of a tile


class Matrix(NamedTuple):
    """Dense memory [rows, columns] of a tensor, and which of the two counts the channels."""

    rows: int
    columns: int
    channels: int
    by_column: bool

    @classmethod
    def of(cls, t: torch.Tensor, dim: int) -> Matrix:
        channels, outer, inner = t.shape[dim], 1, 1
        for d in range(t.ndim):
            if d != dim and t.stride(d) > t.stride(dim):
                outer *= t.shape[d]
            elif d != dim:
                inner *= t.shape[d]
        if channels == 1:
            return cls(1, outer * inner, 1, False)
        return cls(outer, channels, channels, True) if inner == 1 else cls(outer * channels, inner, channels, False)

    def tile(self) -> tuple[int, int]:
        columns = min(triton.next_power_of_2(self.columns), BLOCK)
        return min(BLOCK // columns, triton.next_power_of_2(self.rows)), columns


def bias_act(
    x: torch.Tensor, b: torch.Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> torch.Tensor:
    """y = clamp(gain * f(x + b)); arguments as in `gankern.bias_act`, all given. Returns the memory format of x."""
    y = torch.empty_like(x, dtype=_written_as(x))
    if y.numel() == 0:
        return y.to(x.dtype)
    matrix = Matrix.of(y, dim) if b is not None else Matrix(1, y.numel(), 1, False)
    block_rows, block_columns = matrix.tile()
    grid = (triton.cdiv(matrix.rows, block_rows) * triton.cdiv(matrix.columns, block_columns),)
    with torch.cuda.device_of(y):
        bias_act_fwd_kernel[grid](
            _laid_out_as(x, y),
            None if b is None else b.contiguous(),
            y,
            matrix.rows,
            matrix.columns,
            matrix.channels,
            alpha,
            gain,
            0.0 if clamp is None else clamp,
            ACT=act,
            CLAMPED=clamp is not None,
            BY_COLUMN=matrix.by_column,
            BLOCK_ROWS=block_rows,
            BLOCK_COLUMNS=block_columns,
            ACC=_accumulator(y),
            WIDE=_is_wide(y),
        )
    return y.to(x.dtype)


def bias_act_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    b: torch.Tensor | None,
    dim: int,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    bias_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """dx = dy * slope, and the bias gradient [C] = sum of dx over all dimensions but `dim` (empty if not wanted).

    Args:
        ref: What the slope follows from: x for swish, and for lrelu with alpha < 0; else y. None for linear.
        b: Only read where ref is x.
    """
    if ref is None and (act != "linear" or clamp is not None):
        raise ValueError(f"gankern.bias_act_backward: ref must be given for act='{act}' and clamp={clamp}, got None")
    dx = torch.empty_like(dy if ref is None else ref, dtype=_written_as(dy))
    total = torch.float64 if dy.dtype == torch.float64 else torch.float32
    if dx.numel() == 0:
        return dx.to(dy.dtype), dx.new_zeros([dx.shape[dim] if bias_gradient else 0], dtype=total)
    from_input = act == "swish" or (act == "lrelu" and alpha < 0)
    b = b.contiguous() if b is not None and from_input else None
    matrix = Matrix.of(dx, dim) if b is not None or bias_gradient else Matrix(1, dx.numel(), 1, False)
    block_rows, block_columns = matrix.tile()
    row_blocks, column_blocks = triton.cdiv(matrix.rows, block_rows), triton.cdiv(matrix.columns, block_columns)
    repeat = triton.next_power_of_2(triton.cdiv(row_blocks, 512)) if bias_gradient and matrix.by_column else 1
    row_blocks = triton.cdiv(row_blocks, repeat)
    partial = None
    if bias_gradient:
        shape = [row_blocks, matrix.columns] if matrix.by_column else [column_blocks, matrix.rows]
        partial = dx.new_empty(shape, dtype=total)
    with torch.cuda.device_of(dx):
        bias_act_bwd_kernel[(row_blocks * column_blocks,)](
            _laid_out_as(dy, dx),
            None if ref is None else _laid_out_as(ref, dx),
            b,
            dx,
            partial,
            matrix.rows,
            matrix.columns,
            matrix.channels,
            alpha,
            gain,
            0.0 if gain == 0 else 1 / gain,
            0.0 if clamp is None else clamp,
            ACT=act,
            CLAMPED=clamp is not None,
            FROM_INPUT=from_input,
            BY_COLUMN=matrix.by_column,
            REPEAT=repeat,
            BLOCK_ROWS=block_rows,
            BLOCK_COLUMNS=block_columns,
            ACC=_accumulator(dx),
            WIDE=_is_wide(dx),
        )
    db = dx.new_empty([0], dtype=total) if partial is None else partial.reshape(-1, matrix.channels).sum(0)  # [C]
    return dx.to(dy.dtype), db


def _memory_format(x: torch.Tensor) -> torch.memory_format:
    """Of the results for images x, by the rule of gankern/library.py."""
    is_last = x.shape[1] > 1 and x.stride(1) == 1 and x.stride(3) >= x.shape[1]
    return torch.channels_last if is_last else torch.contiguous_format


def _laid_out_as(t: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """t in the memory layout of `like`: t itself, or a copy."""
    if all(n == 1 or s == o for n, s, o in zip(t.shape, t.stride(), like.stride(), strict=True)):
        return t
    return torch.empty_like(like, dtype=t.dtype).copy_(t)


def _written_as(t: torch.Tensor) -> torch.dtype:
    """The dtype of t, but float32 for bfloat16 on the CPU: Triton's interpreter would cut off, not round."""
    return torch.float32 if t.dtype == torch.bfloat16 and t.device.type == "cpu" else t.dtype


def _accumulator(t: torch.Tensor) -> tl.dtype:
    return tl.float64 if t.dtype == torch.float64 else tl.float32


def _is_wide(t: torch.Tensor) -> bool:
    """Whether positions in memory need 64 bits."""
    return t.numel() + 2 * BLOCK >= 2**31


@triton.jit
def _expm1(u):
    """exp(u) - 1; where |u| < 1/2 by its Taylor series, which does not cancel."""
    TERMS: tl.constexpr = 16 if u.dtype == tl.float64 else 9
    series = u * 0.0 + 1.0
    for i in tl.static_range(TERMS, 1, -1):
        series = series * u * (1.0 / i) + 1.0
    return tl.where(tl.abs(u) < 0.5, series * u, tl.exp(u) - 1.0)


@triton.jit
def _log1p(z):
    """log(1 + z) for z in [0, 1], by 2 atanh(z / (2 + z))."""
    TERMS: tl.constexpr = 18 if z.dtype == tl.float64 else 8
    t = z / (2.0 + z)
    series = t * 0.0
    for i in tl.static_range(TERMS, -1, -1):
        series = series * t * t + 1.0 / (2 * i + 1)
    return 2.0 * t * series


@triton.jit
def _sigmoid(u):
    return 1.0 / (1.0 + tl.exp(-u))


@triton.jit
def _activate(u, alpha, ACT: tl.constexpr):
    """f(u)"""
    if ACT == "relu":
        u = tl.where(u < 0.0, 0.0, u)
    elif ACT == "lrelu":
        u = tl.where(u > 0.0, u, u * alpha)
    elif ACT == "tanh":
        e = _expm1(2.0 * tl.where(u > 20.0, 20.0, tl.where(u < -20.0, -20.0, u)))
        u = e / (e + 2.0)
    elif ACT == "sigmoid":
        u = _sigmoid(u)
    elif ACT == "elu":
        u = tl.where(u > 0.0, u, _expm1(u))
    elif ACT == "selu":
        u = 1.0507009873554805 * tl.where(u > 0.0, u, 1.6732632423543772 * _expm1(u))
    elif ACT == "softplus":
        u = tl.where(u > 0.0, u, 0.0) + _log1p(tl.exp(-tl.abs(u)))
    elif ACT == "swish":
        u = u * _sigmoid(u)
    return u


@triton.jit
def _slope(v, alpha, ACT: tl.constexpr):
    """f'(u), from v = f(u), or for swish and lrelu from u itself."""
    if ACT == "relu":
        v = tl.where(v > 0.0, 1.0, 0.0)
    elif ACT == "lrelu":
        v = tl.where(v > 0.0, 1.0, alpha)
    elif ACT == "tanh":
        v = 1.0 - v * v
    elif ACT == "sigmoid":
        v = v * (1.0 - v)
    elif ACT == "elu":
        v = tl.where(v < 0.0, v + 1.0, 1.0)
    elif ACT == "selu":
        v = tl.where(v <= 0.0, v + 1.0507009873554805 * 1.6732632423543772, 1.0507009873554805)
    elif ACT == "softplus":
        v = -_expm1(-v)
    elif ACT == "swish":
        s = _sigmoid(v)
        v = s * (1.0 + v * (1.0 - s))
    else:
        v = tl.full(v.shape, 1.0, v.dtype)
    return v


@triton.jit
def _bias_act(u, alpha, gain, clamp, ACT: tl.constexpr, CLAMPED: tl.constexpr, ACC: tl.constexpr):
    """y, from u = x + b"""
    y = _activate(u, tl.full((), alpha, ACC), ACT) * tl.full((), gain, ACC)
    if CLAMPED:
        limit = tl.full((), clamp, ACC)
        y = tl.where(y > limit, limit, tl.where(y < -limit, -limit, y))  # NaN passes
    return y


@triton.jit
def bias_act_fwd_kernel(
    x_ptr,
    b_ptr,
    y_ptr,
    rows,
    columns,
    channels,
    alpha: tl.float64,
    gain: tl.float64,
    clamp: tl.float64,
    ACT: tl.constexpr,
    CLAMPED: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    column_blocks = tl.cdiv(columns, BLOCK_COLUMNS)
    row = (program // column_blocks) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
    column = (program % column_blocks) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
    at = row[:, None] * columns + column[None, :]
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    u = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
    if b_ptr is not None:
        if BY_COLUMN:
            u += tl.load(b_ptr + column, mask=column < columns, other=0.0).to(ACC)[None, :]
        else:
            u += tl.load(b_ptr + row % channels).to(ACC)[:, None]
    y = _bias_act(u, alpha, gain, clamp, ACT, CLAMPED, ACC)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def bias_act_bwd_kernel(
    dy_ptr,
    ref_ptr,
    b_ptr,
    dx_ptr,
    partial_ptr,
    rows,
    columns,
    channels,
    alpha: tl.float64,
    gain: tl.float64,
    inverse_gain: tl.float64,
    clamp: tl.float64,
    ACT: tl.constexpr,
    CLAMPED: tl.constexpr,
    FROM_INPUT: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    REPEAT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_COLUMNS: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    column_blocks = tl.cdiv(columns, BLOCK_COLUMNS)
    row_block, column_block = program // column_blocks, program % column_blocks
    column = column_block * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)  # [BLOCK_COLUMNS]
    scale = tl.full((), gain, ACC)
    total = tl.zeros([BLOCK_ROWS, BLOCK_COLUMNS], ACC)
    for i in range(REPEAT):
        row = (row_block * REPEAT + i) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)  # [BLOCK_ROWS]
        at = row[:, None] * columns + column[None, :]
        inside = (row < rows)[:, None] & (column < columns)[None, :]
        dx = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC) * scale
        if ref_ptr is not None:
            ref = tl.load(ref_ptr + at, mask=inside, other=0.0).to(ACC)
            if FROM_INPUT:
                if b_ptr is not None:
                    if BY_COLUMN:
                        ref += tl.load(b_ptr + column, mask=column < columns, other=0.0).to(ACC)[None, :]
                    else:
                        ref += tl.load(b_ptr + row % channels).to(ACC)[:, None]
                dx = dx * _slope(ref, tl.full((), alpha, ACC), ACT)
                ref = _activate(ref, tl.full((), alpha, ACC), ACT) * scale
            else:
                dx = dx * _slope(ref * tl.full((), inverse_gain, ACC), tl.full((), alpha, ACC), ACT)
            if CLAMPED:
                dx = tl.where(tl.abs(ref) < tl.full((), clamp, ACC), dx, 0.0)
        tl.store(dx_ptr + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
        total += dx
    if partial_ptr is not None:
        if BY_COLUMN:
            tl.store(partial_ptr + row_block * columns + column, tl.sum(total, axis=0), mask=column < columns)
        else:
            row = row_block * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
            tl.store(partial_ptr + column_block * rows + row, tl.sum(total, axis=1), mask=row < rows)
