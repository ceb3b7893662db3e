"""grid_sample as Triton kernels: tiles of points x channels.

The gradient of x is added up by atomic additions, whose order is the GPU's: two runs differ by rounding, as with
torch's own kernel. 16-bit numbers become float32 as soon as they are loaded, and the sums are float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _memory_format


def grid_sample(x: torch.Tensor, grid: torch.Tensor, align_corners: bool) -> torch.Tensor:
    """y[n, c, i, j] = x[n, c] at grid[n, i, j]; arguments as in `gankern.grid_sample`, all given."""
    x = _dense(x, _is_channels_last(x))
    y = _images(x, grid.shape[1], grid.shape[2], _is_channels_last(x), _written_as(x))
    if y.numel() > 0:
        _launch(grid_sample_fwd_kernel, x, y, None, grid, align_corners)
    return y.to(x.dtype)


def grid_sample_backward(
    dy: torch.Tensor,
    x: torch.Tensor | None,
    grid: torch.Tensor,
    h: int,
    w: int,
    channels_last: bool,
    align_corners: bool,
    input_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of x [N, C, h, w], if wanted, and of the grid, if there is an x; empty if not."""
    dy = _dense(dy, channels_last)
    dx, dgrid = dy.new_empty([0]), grid.new_empty([0])
    if input_gradient:
        total = torch.float64 if dy.dtype == torch.float64 else torch.float32
        dx = _images(dy, h, w, channels_last, total).zero_()
        if dx.numel() > 0:
            _launch(grid_sample_dx_kernel, dx, dy, None, grid, align_corners)
        dx = dx.to(dy.dtype)
    if x is not None:
        x = _dense(x, channels_last)
        dgrid = torch.empty(grid.shape, dtype=_written_as(grid), device=grid.device)
        if dgrid.numel() > 0:
            _launch(grid_sample_dgrid_kernel, x, dy, dgrid, grid, align_corners)
        dgrid = dgrid.to(grid.dtype)
    return dx, dgrid


def _launch(
    kernel: triton.JITFunction,
    images: torch.Tensor,
    samples: torch.Tensor,
    dgrid: torch.Tensor | None,
    grid: torch.Tensor,
    align_corners: bool,
) -> None:
    """`images` are x or dx, `samples` are y or dy."""
    n, channels, h, w = images.shape
    last = _is_channels_last(samples) if channels > 1 else False
    points = grid.shape[1] * grid.shape[2]
    block_c = max(1, min(64 if last else 4, triton.next_power_of_2(channels)))
    block = min(512 // block_c, triton.next_power_of_2(points))
    blocks_c = 1 if dgrid is not None else triton.cdiv(channels, block_c)
    with torch.cuda.device_of(images):
        kernel[(n * triton.cdiv(points, block) * blocks_c,)](
            images,
            samples,
            dgrid,
            grid.contiguous(),
            channels,
            h,
            w,
            points,
            (w - align_corners) / 2,
            (h - align_corners) / 2,
            0.0 if align_corners else 0.5,
            CHANNEL_BLOCKS=triton.cdiv(channels, block_c),
            CHANNELS_LAST=last,
            BLOCK=block,
            BLOCK_C=block_c,
            ACC=tl.float64 if samples.dtype == torch.float64 else tl.float32,
            WIDE=max(images.numel(), samples.numel()) + 2**16 >= 2**31,
        )


def _is_channels_last(t: torch.Tensor) -> bool:
    return _memory_format(t) is torch.channels_last


def _dense(t: torch.Tensor, channels_last: bool) -> torch.Tensor:
    return t.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _images(like: torch.Tensor, h: int, w: int, channels_last: bool, dtype: torch.dtype) -> torch.Tensor:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty([*like.shape[:2], h, w], dtype=dtype, device=like.device, memory_format=layout)


def _written_as(t: torch.Tensor) -> torch.dtype:
    """The dtype of t, but float32 for bfloat16 on the CPU: Triton's interpreter would cut off, not round."""
    return torch.float32 if t.dtype == torch.bfloat16 and t.device.type == "cpu" else t.dtype


@triton.jit
def _below(number, size, scale, shift, ACC: tl.constexpr):
    """The pixel below a number of the grid, and how far above it that is. Every number gives a safe integer."""
    position = (number.to(ACC) + 1.0) * tl.full((), scale, ACC) - tl.full((), shift, ACC)
    floored = tl.floor(position)
    bounded = tl.where(floored > -2.0, floored, -2.0)  # NaN too
    bounded = tl.where(bounded < size, bounded, size)
    return bounded.to(tl.int32), position - floored


@triton.jit
def _tile(
    grid_ptr,
    h,
    w,
    points,
    scale_x,
    scale_y,
    shift,
    BLOCKS_C: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
    ACC: tl.constexpr,
):
    """Of this program: image, first channel block, points [BLOCK], their pixels and fractions, pixel strides."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    block = program // BLOCKS_C
    blocks = tl.cdiv(points, BLOCK)
    n = block // blocks
    point = block % blocks * BLOCK + tl.arange(0, BLOCK)
    at = grid_ptr + (n * points + point) * 2
    left, x = _below(tl.load(at, mask=point < points, other=0.0), w, scale_x, shift, ACC)
    top, y = _below(tl.load(at + 1, mask=point < points, other=0.0), h, scale_y, shift, ACC)
    if WIDE:
        left, top = left.to(tl.int64), top.to(tl.int64)
    return n, program % BLOCKS_C, point, left, top, x, y


@triton.jit
def _corner(left, top, h, w, DX: tl.constexpr, DY: tl.constexpr):
    """A pixel's position in its plane, and whether it is inside."""
    column, row = left + DX, top + DY
    return row * w + column, (column >= 0) & (column < w) & (row >= 0) & (row < h)


@triton.jit
def _read(base, left, top, h, w, step, wanted, DX: tl.constexpr, DY: tl.constexpr, ACC: tl.constexpr):
    """A corner's values [BLOCK, BLOCK_C], zero outside."""
    pixel, inside = _corner(left, top, h, w, DX, DY)
    return tl.load(base + (pixel * step)[:, None], mask=wanted & inside[:, None], other=0.0).to(ACC)


@triton.jit
def _add(base, value, left, top, h, w, step, wanted, DX: tl.constexpr, DY: tl.constexpr):
    pixel, inside = _corner(left, top, h, w, DX, DY)
    tl.atomic_add(base + (pixel * step)[:, None], value, mask=wanted & inside[:, None], sem="relaxed")


@triton.jit
def grid_sample_fwd_kernel(
    x_ptr,
    y_ptr,
    dgrid_ptr,
    grid_ptr,
    channels,
    h,
    w,
    points,
    scale_x: tl.float64,
    scale_y: tl.float64,
    shift: tl.float64,
    CHANNEL_BLOCKS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, block_c, point, left, top, x, y = _tile(
        grid_ptr, h, w, points, scale_x, scale_y, shift, CHANNEL_BLOCKS, BLOCK, WIDE, ACC
    )
    c = (block_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    wanted = (point < points)[:, None] & (c < channels)
    step = channels if CHANNELS_LAST else 1
    base = x_ptr + n * channels * h * w + c * (1 if CHANNELS_LAST else h * w)
    a = _read(base, left, top, h, w, step, wanted, 0, 0, ACC)
    b = _read(base, left, top, h, w, step, wanted, 1, 0, ACC)
    total = a * ((1.0 - x) * (1.0 - y))[:, None] + b * (x * (1.0 - y))[:, None]
    a = _read(base, left, top, h, w, step, wanted, 0, 1, ACC)
    b = _read(base, left, top, h, w, step, wanted, 1, 1, ACC)
    total += a * ((1.0 - x) * y)[:, None] + b * (x * y)[:, None]
    to = y_ptr + n * channels * points + c * (1 if CHANNELS_LAST else points) + (point * step)[:, None]
    tl.store(to, total.to(y_ptr.dtype.element_ty), mask=wanted)


@triton.jit
def grid_sample_dx_kernel(
    dx_ptr,
    dy_ptr,
    dgrid_ptr,
    grid_ptr,
    channels,
    h,
    w,
    points,
    scale_x: tl.float64,
    scale_y: tl.float64,
    shift: tl.float64,
    CHANNEL_BLOCKS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, block_c, point, left, top, x, y = _tile(
        grid_ptr, h, w, points, scale_x, scale_y, shift, CHANNEL_BLOCKS, BLOCK, WIDE, ACC
    )
    c = (block_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
    wanted = (point < points)[:, None] & (c < channels)
    step = channels if CHANNELS_LAST else 1
    base = dx_ptr + n * channels * h * w + c * (1 if CHANNELS_LAST else h * w)
    at = dy_ptr + n * channels * points + c * (1 if CHANNELS_LAST else points) + (point * step)[:, None]
    dy = tl.load(at, mask=wanted, other=0.0).to(ACC)
    _add(base, dy * ((1.0 - x) * (1.0 - y))[:, None], left, top, h, w, step, wanted, 0, 0)
    _add(base, dy * (x * (1.0 - y))[:, None], left, top, h, w, step, wanted, 1, 0)
    _add(base, dy * ((1.0 - x) * y)[:, None], left, top, h, w, step, wanted, 0, 1)
    _add(base, dy * (x * y)[:, None], left, top, h, w, step, wanted, 1, 1)


@triton.jit
def grid_sample_dgrid_kernel(
    x_ptr,
    dy_ptr,
    dgrid_ptr,
    grid_ptr,
    channels,
    h,
    w,
    points,
    scale_x: tl.float64,
    scale_y: tl.float64,
    shift: tl.float64,
    CHANNEL_BLOCKS: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, _, point, left, top, x, y = _tile(grid_ptr, h, w, points, scale_x, scale_y, shift, 1, BLOCK, WIDE, ACC)
    step = channels if CHANNELS_LAST else 1
    along_x, along_y = tl.zeros([BLOCK], ACC), tl.zeros([BLOCK], ACC)
    for block_c in range(CHANNEL_BLOCKS):
        c = (block_c * BLOCK_C + tl.arange(0, BLOCK_C))[None, :]
        wanted = (point < points)[:, None] & (c < channels)
        base = x_ptr + n * channels * h * w + c * (1 if CHANNELS_LAST else h * w)
        at = dy_ptr + n * channels * points + c * (1 if CHANNELS_LAST else points) + (point * step)[:, None]
        dy = tl.load(at, mask=wanted, other=0.0).to(ACC)
        a = tl.sum(dy * _read(base, left, top, h, w, step, wanted, 0, 0, ACC), axis=1)
        b = tl.sum(dy * _read(base, left, top, h, w, step, wanted, 1, 0, ACC), axis=1)
        e = tl.sum(dy * _read(base, left, top, h, w, step, wanted, 0, 1, ACC), axis=1)
        f = tl.sum(dy * _read(base, left, top, h, w, step, wanted, 1, 1, ACC), axis=1)
        along_x += (1.0 - y) * (b - a) + y * (f - e)
        along_y += (1.0 - x) * (e - a) + x * (f - b)
    to = dgrid_ptr + (n * points + point) * 2
    along_x, along_y = along_x * tl.full((), scale_x, ACC), along_y * tl.full((), scale_y, ACC)
    tl.store(to, along_x.to(dgrid_ptr.dtype.element_ty), mask=point < points)
    tl.store(to + 1, along_y.to(dgrid_ptr.dtype.element_ty), mask=point < points)
