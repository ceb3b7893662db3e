"""styled_bias_act as Triton kernels.

A program handles a tile of channels and pixels of one sample, or in the backward passes several tiles along the pixels.
Sums over pixels are one part per program and a `torch.sum` over those: no atomics, so two runs agree bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import BLOCK, _accumulator, _bias_act, _is_wide, _laid_out_as, _slope, _written_as

PARTS = 256  # of a sum over the pixels of one sample, at most


class Tiles(NamedTuple):
    """How the memory of [N, C, H, W] is divided among programs; all sizes but `samples` are of one sample."""

    samples: int
    channels: int
    pixels: int
    channels_last: bool
    block_c: int
    block_p: int
    parts: int  # programs along the pixels, each with one tile, or some where they sum

    @classmethod
    def of(cls, t: torch.Tensor, sums: bool) -> Tiles:
        n, c, h, w = t.shape
        channels_last = h * w == 1 or (c > 1 and t.stride(1) == 1)
        fast, slow = (c, h * w) if channels_last else (h * w, c)
        block_fast = min(triton.next_power_of_2(fast), BLOCK)
        block_slow = min(BLOCK // block_fast, triton.next_power_of_2(slow))
        block_c, block_p = (block_fast, block_slow) if channels_last else (block_slow, block_fast)
        tiles = triton.cdiv(h * w, block_p)
        parts = triton.cdiv(tiles, triton.cdiv(tiles, PARTS)) if sums else tiles
        return cls(n, c, h * w, channels_last, block_c, block_p, parts)

    def grid(self) -> tuple[int]:
        return (self.samples * triton.cdiv(self.channels, self.block_c) * self.parts,)

    def sizes(self, noise: torch.Tensor | None) -> tuple[int, int, int, int]:
        """Arguments of every kernel; the last is the way from one sample's noise to the next one's."""
        return self.channels, self.pixels, self.parts, 0 if noise is None or noise.shape[0] == 1 else self.pixels

    def constants(self, t: torch.Tensor, act: str, clamp: float | None) -> dict[str, Any]:
        blocks = {"CHANNELS_LAST": self.channels_last, "BLOCK_C": self.block_c, "BLOCK_P": self.block_p}
        return {"ACT": act, "CLAMPED": clamp is not None, **blocks, "ACC": _accumulator(t), "WIDE": _is_wide(t)}

    def sum_parts(self, like: torch.Tensor, wanted: bool) -> torch.Tensor | None:
        """[N, parts, C]"""
        return like.new_empty([self.samples, self.parts, self.channels], dtype=_sum_dtype(like)) if wanted else None


def styled_bias_act(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
) -> torch.Tensor:
    """y = clamp(gain * f(scale * x + strength * noise + b)); arguments as in `gankern.styled_bias_act`, all given."""
    y = _empty_as(x)
    if y.numel() == 0:
        return y.to(x.dtype)
    tiles = Tiles.of(y, sums=False)
    with torch.cuda.device_of(y):
        styled_bias_act_fwd_kernel[tiles.grid()](
            _laid_out_as(x, y),
            *map(_dense, (scale, noise, strength, b)),
            y,
            *tiles.sizes(noise),
            0 if strength is None or strength.ndim == 0 else 1,
            alpha,
            gain,
            0.0 if clamp is None else clamp,
            **tiles.constants(y, act, clamp),
        )
    return y.to(x.dtype)


def styled_bias_act_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    x: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    bias_gradient: bool,
) -> tuple[torch.Tensor, ...]:
    """dx = scale * du with du = dy * slope, and [N, C] the sums over pixels of x * du, of noise * du, and of du.

    Args:
        ref: y, which the slope follows from; None for linear without clamp.
        x, noise: None where the sum over them is not wanted, which is then empty.
        act: linear, relu or lrelu with alpha >= 0.
    """
    _check_ref("styled_bias_act_backward", ref, act, clamp)
    dx = _empty_as(next(t for t in (ref, x, dy) if t is not None))
    wanted = (x is not None, noise is not None, bias_gradient)
    if dx.numel() == 0:
        return dx.to(dy.dtype), *(_total(dx, None, w) for w in wanted)
    tiles = Tiles.of(dx, sums=any(wanted))
    parts = [tiles.sum_parts(dx, w) for w in wanted]
    with torch.cuda.device_of(dx):
        styled_bias_act_bwd_kernel[tiles.grid()](
            _laid_out_as(dy, dx),
            None if ref is None else _laid_out_as(ref, dx),
            None if x is None else _laid_out_as(x, dx),
            *map(_dense, (scale, noise)),
            dx,
            *parts,
            *tiles.sizes(noise),
            alpha,
            gain,
            0.0 if clamp is None else clamp,
            **tiles.constants(dx, act, clamp),
        )
    return dx.to(dy.dtype), *(_total(dx, part, w) for part, w in zip(parts, wanted, strict=True))


def styled_bias_act_backward_backward(
    dy: torch.Tensor,
    ref: torch.Tensor | None,
    x: torch.Tensor | None,
    scale: torch.Tensor | None,
    noise: torch.Tensor | None,
    ddx: torch.Tensor,
    dd_scale: torch.Tensor | None,
    dd_strength: torch.Tensor | None,
    dd_b: torch.Tensor | None,
    act: str,
    alpha: float,
    gain: float,
    clamp: float | None,
    want_x: bool,
    want_scale: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """grad_dy = slope * (scale * ddx + dd_scale * x + dd_strength * noise + dd_b), grad_x = dd_scale * du, and [N, C]
    grad_scale = the sum over pixels of ddx * du; x comes with dd_scale, noise with dd_strength."""
    _check_ref("styled_bias_act_backward_backward", ref, act, clamp)
    grad_dy = _empty_as(next(t for t in (ref, x, dy) if t is not None))
    grad_x = torch.empty_like(grad_dy) if want_x else grad_dy.new_empty([0])
    if grad_dy.numel() == 0:
        return grad_dy.to(dy.dtype), grad_x.to(dy.dtype), _total(grad_dy, None, want_scale)
    tiles = Tiles.of(grad_dy, sums=want_scale)
    parts = tiles.sum_parts(grad_dy, want_scale)
    with torch.cuda.device_of(grad_dy):
        styled_bias_act_bwd_bwd_kernel[tiles.grid()](
            _laid_out_as(dy, grad_dy) if want_x or want_scale else None,
            None if ref is None else _laid_out_as(ref, grad_dy),
            None if x is None else _laid_out_as(x, grad_dy),
            *map(_dense, (scale, noise)),
            _laid_out_as(ddx, grad_dy),
            *map(_dense, (dd_scale, dd_strength, dd_b)),
            grad_dy,
            grad_x if want_x else None,
            parts,
            *tiles.sizes(noise),
            alpha,
            gain,
            0.0 if clamp is None else clamp,
            **tiles.constants(grad_dy, act, clamp),
            num_warps=8,  # fewer numbers a thread: five images in registers
        )
    return grad_dy.to(dy.dtype), grad_x.to(dy.dtype), _total(grad_dy, parts, want_scale)


def _check_ref(op: str, ref: torch.Tensor | None, act: str, clamp: float | None) -> None:
    if ref is None and (act != "linear" or clamp is not None):
        raise ValueError(f"gankern.{op}: ref must be given for act='{act}' and clamp={clamp}, got None")


def _empty_as(x: torch.Tensor) -> torch.Tensor:
    """channels_last if x is: channels are neighbours, pixels at least C apart. As in gankern/library.py."""
    is_last = x.shape[1] > 1 and x.stride(1) == 1 and x.stride(3) >= x.shape[1]
    memory_format = torch.channels_last if is_last else torch.contiguous_format
    return torch.empty_like(x, dtype=_written_as(x), memory_format=memory_format)


def _dense(t: torch.Tensor | None) -> torch.Tensor | None:
    return None if t is None else t.contiguous()


def _sum_dtype(t: torch.Tensor) -> torch.dtype:
    return torch.float64 if t.dtype == torch.float64 else torch.float32


def _total(like: torch.Tensor, parts: torch.Tensor | None, wanted: bool) -> torch.Tensor:
    """[N, C], the sum of parts [N, parts, C]; [0] where it is not wanted."""
    return (
        parts.sum(1) if parts is not None else like.new_zeros(like.shape[:2] if wanted else [0], dtype=_sum_dtype(like))
    )


@triton.jit
def _place(program, channels, parts, BLOCK_C: tl.constexpr, WIDE: tl.constexpr):
    """The sample, the channels [BLOCK_C] and the part of the pixels that belong to a program."""
    if WIDE:
        program = program.to(tl.int64)
    blocks = tl.cdiv(channels, BLOCK_C)
    channel = (program // parts % blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    return program // (parts * blocks), channel, program % parts


@triton.jit
def _numbers(ptr, at, inside, OTHERWISE: tl.constexpr, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr):
    """One number per channel, beside tiles."""
    v = tl.full(at.shape, OTHERWISE, ACC) if ptr is None else tl.load(ptr + at, mask=inside, other=0.0).to(ACC)
    return v[None, :] if CHANNELS_LAST else v[:, None]


@triton.jit
def _noise(ptr, at, inside, CHANNELS_LAST: tl.constexpr, ACC: tl.constexpr):
    """One number per pixel, beside tiles."""
    v = tl.load(ptr + at, mask=inside, other=0.0).to(ACC)
    return v[:, None] if CHANNELS_LAST else v[None, :]


@triton.jit
def _tile(n, c, p, channels, pixels, CHANNELS_LAST: tl.constexpr):
    """Positions of the elements of a tile, and which of them there are."""
    start = n * channels * pixels
    if CHANNELS_LAST:
        return start + p[:, None] * channels + c[None, :], (p < pixels)[:, None] & (c < channels)[None, :]
    else:
        return start + c[:, None] * pixels + p[None, :], (c < channels)[:, None] & (p < pixels)[None, :]


@triton.jit
def _slope_of(ref_ptr, at, inside, alpha, gain, clamp, ACT: tl.constexpr, CLAMPED: tl.constexpr, ACC: tl.constexpr):
    """dy / du, from y; of f(u) = y / gain only the sign counts."""
    if ref_ptr is None:
        slope = tl.full(at.shape, gain, ACC)
    else:
        ref = tl.load(ref_ptr + at, mask=inside, other=0.0).to(ACC)
        factor = tl.full((), gain, ACC)
        slope = _slope(ref * factor, tl.full((), alpha, ACC), ACT) * factor
        if CLAMPED:
            slope = tl.where(tl.abs(ref) < tl.full((), clamp, ACC), slope, 0.0)
    return slope


@triton.jit
def _store_sum(ptr, total, n, part, parts, c, channels, CHANNELS_LAST: tl.constexpr):
    if ptr is not None:
        tl.store(
            ptr + (n * parts + part) * channels + c, tl.sum(total, axis=0 if CHANNELS_LAST else 1), mask=c < channels
        )


@triton.jit
def styled_bias_act_fwd_kernel(
    x_ptr,
    scale_ptr,
    noise_ptr,
    strength_ptr,
    b_ptr,
    y_ptr,
    channels,
    pixels,
    parts,
    noise_stride,
    strength_stride,
    alpha: tl.float64,
    gain: tl.float64,
    clamp: tl.float64,
    ACT: tl.constexpr,
    CLAMPED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, c, part = _place(tl.program_id(0), channels, parts, BLOCK_C, WIDE)
    p = part * BLOCK_P + tl.arange(0, BLOCK_P)
    at, inside = _tile(n, c, p, channels, pixels, CHANNELS_LAST)
    scale = _numbers(scale_ptr, n * channels + c, c < channels, 1.0, CHANNELS_LAST, ACC)
    u = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC) * scale
    u += _numbers(b_ptr, c, c < channels, 0.0, CHANNELS_LAST, ACC)
    if noise_ptr is not None:
        strength = _numbers(strength_ptr, c * strength_stride, c < channels, 1.0, CHANNELS_LAST, ACC)
        u += _noise(noise_ptr, n * noise_stride + p, p < pixels, CHANNELS_LAST, ACC) * strength
    y = _bias_act(u, alpha, gain, clamp, ACT, CLAMPED, ACC)
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def styled_bias_act_bwd_kernel(
    dy_ptr,
    ref_ptr,
    x_ptr,
    scale_ptr,
    noise_ptr,
    dx_ptr,
    sum_x_ptr,
    sum_noise_ptr,
    sum_b_ptr,
    channels,
    pixels,
    parts,
    noise_stride,
    alpha: tl.float64,
    gain: tl.float64,
    clamp: tl.float64,
    ACT: tl.constexpr,
    CLAMPED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, c, part = _place(tl.program_id(0), channels, parts, BLOCK_C, WIDE)
    scale = _numbers(scale_ptr, n * channels + c, c < channels, 1.0, CHANNELS_LAST, ACC)
    sum_x = tl.zeros([BLOCK_P, BLOCK_C] if CHANNELS_LAST else [BLOCK_C, BLOCK_P], ACC)
    sum_noise, sum_b = sum_x, sum_x
    repeat = tl.cdiv(tl.cdiv(pixels, BLOCK_P), parts)
    for i in range(repeat):
        p = (part * repeat + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        at, inside = _tile(n, c, p, channels, pixels, CHANNELS_LAST)
        slope = _slope_of(ref_ptr, at, inside, alpha, gain, clamp, ACT, CLAMPED, ACC)
        du = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC) * slope
        tl.store(dx_ptr + at, (du * scale).to(dx_ptr.dtype.element_ty), mask=inside)
        sum_b += du
        if x_ptr is not None:
            sum_x += du * tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
        if noise_ptr is not None:
            sum_noise += du * _noise(noise_ptr, n * noise_stride + p, p < pixels, CHANNELS_LAST, ACC)
    _store_sum(sum_x_ptr, sum_x, n, part, parts, c, channels, CHANNELS_LAST)
    _store_sum(sum_noise_ptr, sum_noise, n, part, parts, c, channels, CHANNELS_LAST)
    _store_sum(sum_b_ptr, sum_b, n, part, parts, c, channels, CHANNELS_LAST)


@triton.jit
def styled_bias_act_bwd_bwd_kernel(
    dy_ptr,
    ref_ptr,
    x_ptr,
    scale_ptr,
    noise_ptr,
    ddx_ptr,
    dd_scale_ptr,
    dd_strength_ptr,
    dd_b_ptr,
    grad_dy_ptr,
    grad_x_ptr,
    sum_scale_ptr,
    channels,
    pixels,
    parts,
    noise_stride,
    alpha: tl.float64,
    gain: tl.float64,
    clamp: tl.float64,
    ACT: tl.constexpr,
    CLAMPED: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    n, c, part = _place(tl.program_id(0), channels, parts, BLOCK_C, WIDE)
    exists, plane = c < channels, n * channels + c
    scale = _numbers(scale_ptr, plane, exists, 1.0, CHANNELS_LAST, ACC)
    dd_scale = _numbers(dd_scale_ptr, plane, exists, 0.0, CHANNELS_LAST, ACC)
    dd_strength = _numbers(dd_strength_ptr, plane, exists, 0.0, CHANNELS_LAST, ACC)
    dd_b = _numbers(dd_b_ptr, plane, exists, 0.0, CHANNELS_LAST, ACC)
    sum_scale = tl.zeros([BLOCK_P, BLOCK_C] if CHANNELS_LAST else [BLOCK_C, BLOCK_P], ACC)
    repeat = tl.cdiv(tl.cdiv(pixels, BLOCK_P), parts)
    for i in range(repeat):
        p = (part * repeat + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        at, inside = _tile(n, c, p, channels, pixels, CHANNELS_LAST)
        slope = _slope_of(ref_ptr, at, inside, alpha, gain, clamp, ACT, CLAMPED, ACC)
        ddx = tl.load(ddx_ptr + at, mask=inside, other=0.0).to(ACC)
        w = ddx * scale + dd_b
        if x_ptr is not None:
            w += dd_scale * tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
        if noise_ptr is not None:
            w += dd_strength * _noise(noise_ptr, n * noise_stride + p, p < pixels, CHANNELS_LAST, ACC)
        tl.store(grad_dy_ptr + at, (slope * w).to(grad_dy_ptr.dtype.element_ty), mask=inside)
        if dy_ptr is not None:
            du = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC) * slope
            sum_scale += ddx * du
            if grad_x_ptr is not None:
                tl.store(grad_x_ptr + at, (dd_scale * du).to(grad_x_ptr.dtype.element_ty), mask=inside)
    _store_sum(sum_scale_ptr, sum_scale, n, part, parts, c, channels, CHANNELS_LAST)
