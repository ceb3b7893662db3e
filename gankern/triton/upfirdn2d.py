"""upfirdn2d as one Triton kernel for every rate, layout and stride.

A program makes a tile of rows x columns of one plane, or of pixels x channels of one row where x is channels_last.
Polyphase: of the taps along an axis only every up-th meets a sample. 16-bit numbers become float32 as soon as they are
loaded. A separable filter takes two launches, along x and along y, with the arithmetic type in between.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _memory_format


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor,
    up_x: int,
    up_y: int,
    down_x: int,
    down_y: int,
    px0: int,
    px1: int,
    py0: int,
    py1: int,
    flip_filter: bool,
    gain: float,
) -> torch.Tensor:
    """Upsample, pad, filter, downsample; arguments as in `gankern.upfirdn2d`, all given."""
    width = (x.shape[3] * up_x + px0 + px1 - f.shape[-1]) // down_x + 1
    height = (x.shape[2] * up_y + py0 + py1 - f.shape[0]) // down_y + 1
    return resample(x, f, (up_x, up_y), (down_x, down_y), (px0, py0), (width, height), flip_filter, gain)


def resample(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    pad: tuple[int, int],
    size: tuple[int, int],
    flip: bool,
    gain: float,
    summand: torch.Tensor | None = None,
) -> torch.Tensor:
    """To images of `size`, plus `summand`, if given, of any dtype and strides; pairs are (x, y)."""
    f = f.contiguous()
    if f.ndim == 2:
        return _resample(x, f, up, down, pad, size, flip, gain, x.dtype, summand)
    between = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = _resample(x, f[None, :], (up[0], 1), (down[0], 1), (pad[0], 0), (size[0], x.shape[2]), flip, 1.0, between)
    return _resample(rows, f[:, None], (1, up[1]), (1, down[1]), (0, pad[1]), size, flip, gain, x.dtype, summand)


def _resample(
    x: torch.Tensor,
    f: torch.Tensor,
    up: tuple[int, int],
    down: tuple[int, int],
    pad: tuple[int, int],
    size: tuple[int, int],
    flip: bool,
    gain: float,
    dtype: torch.dtype,
    summand: torch.Tensor | None = None,
) -> torch.Tensor:
    """One pass with the taps f [taps_y, taps_x]; pairs are (x, y). Returns [N, C, size_y, size_x] of `dtype`."""
    n, channels = x.shape[:2]
    layout = _memory_format(x)
    last = layout is torch.channels_last
    cut_off = dtype == torch.bfloat16 and x.device.type == "cpu"  # by Triton's interpreter, which does not round
    written_as = torch.float32 if cut_off else dtype
    y = torch.empty([n, channels, size[1], size[0]], dtype=written_as, device=x.device, memory_format=layout)
    if y.numel() == 0:
        return y.to(dtype)
    block_x = min(32 if last else 64, triton.next_power_of_2(size[0]))
    if last:
        block = min(64, triton.next_power_of_2(channels))
        programs = n * size[1] * triton.cdiv(size[0], block_x) * triton.cdiv(channels, block)
    else:
        block = min(512 // block_x, triton.next_power_of_2(size[1]))
        programs = n * channels * triton.cdiv(size[0], block_x) * triton.cdiv(size[1], block)
    with torch.cuda.device_of(y):
        upfirdn2d_fwd_kernel[(programs,)](
            x,
            f,
            y,
            summand,
            *x.shape[1:],
            *size,
            *x.stride(),
            *y.stride(),
            *((0,) * 4 if summand is None else summand.stride()),
            *pad,
            triton.cdiv(max(pad[0], 0), up[0]),
            triton.cdiv(max(pad[1], 0), up[1]),
            gain,
            UP_X=up[0],
            UP_Y=up[1],
            DOWN_X=down[0],
            DOWN_Y=down[1],
            TAPS_X=f.shape[1],
            TAPS_Y=f.shape[0],
            FLIP=flip,
            CHANNELS_LAST=last,
            BLOCK_X=block_x,
            BLOCK=block,
            ACC=tl.float64 if x.dtype == torch.float64 else tl.float32,
            WIDE=any(_is_wide(t) for t in (x, y, summand) if t is not None),
        )
    return y.to(dtype)


def _is_wide(t: torch.Tensor) -> bool:
    """Whether positions in memory, those of a tile that hangs over the end included, need 64 bits."""
    return sum((n + 256) * stride for n, stride in zip(t.shape, t.stride(), strict=True)) >= 2**31


@triton.jit
def _phase(o, pad, lift, UP: tl.constexpr, DOWN: tl.constexpr):
    """The sample and the tap that output `o` starts with; `lift` samples keep the division from negative numbers."""
    t = o * DOWN - pad + lift * UP
    sample = (t + UP - 1) // UP
    return sample - lift, sample * UP - t


@triton.jit
def upfirdn2d_fwd_kernel(
    x_ptr,
    f_ptr,
    y_ptr,
    summand_ptr,
    channels,
    in_h,
    in_w,
    out_w,
    out_h,
    x_stride_n,
    x_stride_c,
    x_stride_h,
    x_stride_w,
    y_stride_n,
    y_stride_c,
    y_stride_h,
    y_stride_w,
    summand_stride_n,
    summand_stride_c,
    summand_stride_h,
    summand_stride_w,
    pad_x,
    pad_y,
    lift_x,
    lift_y,
    gain: tl.float64,
    UP_X: tl.constexpr,
    UP_Y: tl.constexpr,
    DOWN_X: tl.constexpr,
    DOWN_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    TAPS_Y: tl.constexpr,
    FLIP: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    blocks_x = tl.cdiv(out_w, BLOCK_X)
    if CHANNELS_LAST:
        blocks = tl.cdiv(channels, BLOCK)
        row = program // (blocks * blocks_x)
        n, oy = row // out_h, row % out_h
        ox = (program // blocks % blocks_x * BLOCK_X + tl.arange(0, BLOCK_X))[:, None]  # [BLOCK_X, 1]
        c = (program % blocks * BLOCK + tl.arange(0, BLOCK))[None, :]  # [1, BLOCK]
    else:
        blocks = tl.cdiv(out_h, BLOCK)
        plane = program // (blocks * blocks_x)
        n, c = plane // channels, plane % channels
        ox = (program % blocks_x * BLOCK_X + tl.arange(0, BLOCK_X))[None, :]  # [1, BLOCK_X]
        oy = (program // blocks_x % blocks * BLOCK + tl.arange(0, BLOCK))[:, None]  # [BLOCK, 1]
    inside = (ox < out_w) & (oy < out_h) & (c < channels)
    ix, tap_x = _phase(ox, pad_x, lift_x, UP_X, DOWN_X)
    iy, tap_y = _phase(oy, pad_y, lift_y, UP_Y, DOWN_Y)
    x_ptr += n * x_stride_n + c * x_stride_c
    total = tl.zeros([BLOCK_X, BLOCK] if CHANNELS_LAST else [BLOCK, BLOCK_X], ACC)
    for i in range((TAPS_Y + UP_Y - 1) // UP_Y):
        ky = tap_y + i * UP_Y if UP_Y > 1 else i
        y_inside = (iy + i >= 0) & (iy + i < in_h) & (ky < TAPS_Y)
        ky = ky if FLIP else TAPS_Y - 1 - ky
        for j in range((TAPS_X + UP_X - 1) // UP_X):
            kx = tap_x + j * UP_X if UP_X > 1 else j
            x_inside = (ix + j >= 0) & (ix + j < in_w) & (kx < TAPS_X)
            kx = kx if FLIP else TAPS_X - 1 - kx
            both = inside & x_inside & y_inside
            sample = tl.load(x_ptr + (iy + i) * x_stride_h + (ix + j) * x_stride_w, mask=both, other=0.0).to(ACC)
            if UP_X > 1 or UP_Y > 1:
                tap_inside = (kx >= 0) & (kx < TAPS_X) & (ky >= 0) & (ky < TAPS_Y)
                tap = tl.load(f_ptr + ky * TAPS_X + kx, mask=tap_inside, other=0.0)
            else:
                tap = tl.load(f_ptr + ky * TAPS_X + kx)
            total += sample * tap.to(ACC)
    at = n * y_stride_n + c * y_stride_c + oy * y_stride_h + ox * y_stride_w
    total = total * tl.full((), gain, ACC)
    if summand_ptr is not None:
        there = n * summand_stride_n + c * summand_stride_c + oy * summand_stride_h + ox * summand_stride_w
        total += tl.load(summand_ptr + there, mask=inside, other=0.0).to(ACC)
    tl.store(y_ptr + at, total.to(y_ptr.dtype.element_ty), mask=inside)
