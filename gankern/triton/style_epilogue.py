"""style_epilogue as Triton kernels.

Each op is two launches over the same programs. A program has some channels of one image and one of their splits, a
share of the pixels; it reads tiles [pixels, channels], whose layout is only a pair of strides. The first launch writes
sums for every split, the second joins those of its channels and writes the result. No atomics, so two runs agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _accumulator, _laid_out_as, _written_as

BLOCK = 1024  # elements of a tile
PROGRAMS = 512  # that a launch should have, by more splits
SUMS = {0: 2, 1: 2, 2: 5}  # that the first launch writes, by the order of the derivative

Tensors = tuple[torch.Tensor | None, ...]


class Grid(NamedTuple):
    """How the pixels and channels of an image are dealt out to programs."""

    pixels: int  # of a tile
    channels: int  # of a tile
    splits: int
    steps: int  # tiles of a split

    @classmethod
    def of(cls, like: torch.Tensor) -> Grid:
        n, c, h, w = like.shape
        all_pixels, all_channels = triton.next_power_of_2(h * w), triton.next_power_of_2(c)
        if like.is_contiguous():
            pixels = min(all_pixels, BLOCK)
            channels = min(all_channels, BLOCK // pixels)
        else:
            channels = min(all_channels, 32)
            pixels = min(all_pixels, BLOCK // channels)
        tiles = triton.cdiv(h * w, pixels)
        splits = triton.next_power_of_2(triton.cdiv(PROGRAMS, n * triton.cdiv(c, channels)))
        splits = min(splits, 64, triton.next_power_of_2(tiles))
        return cls(pixels, channels, splits, triton.cdiv(tiles, splits))


def style_epilogue(
    x: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    alpha: float,
    gain: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y, and mean and 1 / sqrt(var + eps) [N, C]; arguments as in `gankern.style_epilogue`, all given."""
    mean, rstd = _sums_of(x), _sums_of(x)
    (y,) = _launch(0, x, (None, None), (noise, strength, b), (scale, shift, None), (mean, rstd), (alpha, gain, eps))[0]
    return y, mean, rstd


def style_epilogue_backward(
    dy: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    alpha: float,
    gain: float,
    eps: float,
    sums: bool,
) -> tuple[torch.Tensor, ...]:
    """dx, dscale, dshift, and with `sums` the sums over the pixels [N, C] of dx and of dx * noise."""
    results, dscale, dshift, totals = _launch(
        1, x, (dy, None), (noise, strength, b), (scale, None, None), (mean, rstd), (alpha, gain, eps), sums
    )
    return *results, dscale, dshift, *totals


def style_epilogue_backward_backward(
    ddx: torch.Tensor,
    ddscale: torch.Tensor | None,
    ddshift: torch.Tensor | None,
    dy: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor | None,
    strength: torch.Tensor | None,
    b: torch.Tensor | None,
    scale: torch.Tensor | None,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    alpha: float,
    gain: float,
    eps: float,
    sums: bool,
) -> tuple[torch.Tensor, ...]:
    """The gradients of <ddx, dx> + <ddscale, dscale> + <ddshift, dshift> to dy, x and scale, and sums as above."""
    results, grad_scale, _, totals = _launch(
        2, x, (dy, ddx), (noise, strength, b), (scale, ddshift, ddscale), (mean, rstd), (alpha, gain, eps), sums
    )
    return *results, grad_scale, *totals


def _sums_of(x: torch.Tensor, *before: int) -> torch.Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty([*before, *x.shape[:2]], dtype=dtype)


def _launch(
    order: int,
    x: torch.Tensor,
    gradients: Tensors,
    tail: Tensors,
    styles: Tensors,
    statistics: tuple[torch.Tensor, torch.Tensor],
    numbers: tuple[float, float, float],
    sums: bool = False,
) -> Any:
    """(results, dscale, dshift, totals); `styles` is scale, shift or ddshift, ddscale."""
    noise = tail[0]
    like = torch.empty_like(x, dtype=_written_as(x))
    if not (like.is_contiguous() or like.is_contiguous(memory_format=torch.channels_last)):
        like = torch.empty_like(like, memory_format=torch.contiguous_format)
    results = [like, torch.empty_like(like)] if order == 2 else [like]
    dscale, dshift, empty = _sums_of(x), _sums_of(x), x.new_empty([0], dtype=statistics[0].dtype)
    if like.numel() == 0:
        totals = [_sums_of(x) if sums else empty, _sums_of(x) if sums and noise is not None else empty]
        return [r.to(x.dtype) for r in results], dscale, dshift, totals
    n, c, h, w = x.shape
    grid = Grid.of(like)
    partial = _sums_of(x, SUMS[order], grid.splits)
    total = _sums_of(x, 2, grid.splits) if sums else None
    inputs = [None if t is None else _laid_out_as(t, like) for t in (x, *gradients)]
    parameters = [None if t is None else t.contiguous() for t in (*tail, *styles)]
    sizes = (
        n * c,
        c,
        h * w,
        h * w if like.is_contiguous() else 1,
        1 if like.is_contiguous() else c,
        h * w if noise is not None and noise.shape[0] == n else 0,
        1 if tail[1] is not None and tail[1].ndim == 1 else 0,
    )
    options = {
        "ORDER": order,
        "SPLITS": grid.splits,
        "STEPS": grid.steps,
        "PIXELS": grid.pixels,
        "CHANNELS": grid.channels,
        "ACC": _accumulator(like),
    }
    programs = (n * triton.cdiv(c, grid.channels), grid.splits)
    with torch.cuda.device_of(like):
        style_epilogue_sums_kernel[programs](
            *inputs, *parameters[:3], *statistics, partial, *sizes, *numbers[:2], **options
        )
        style_epilogue_apply_kernel[programs](
            *inputs,
            *parameters,
            *statistics,
            partial,
            results[0],
            results[-1],
            dscale,
            dshift,
            total,
            *sizes,
            *numbers,
            **options,
        )
    totals = [empty, empty] if total is None else [total[0].sum(0), empty if noise is None else total[1].sum(0)]
    return [_laid_out_as(r.to(x.dtype), torch.empty_like(x)) for r in results], dscale, dshift, totals


@triton.jit
def _of_channel(ptr, at, mask, otherwise, ACC: tl.constexpr):
    """[1, CHANNELS], or a constant where there is no tensor."""
    if ptr is None:
        values = tl.full(at.shape, otherwise, ACC)
    else:
        values = tl.load(ptr + at, mask=mask, other=0.0)
    return values[None, :]


@triton.jit
def _slope(u, alpha, gain, ACC: tl.constexpr):
    g = tl.full((), gain, ACC)
    return tl.where(u > 0.0, g, g * tl.full((), alpha, ACC))


@triton.jit
def _count(split, first, pixels, STEPS: tl.constexpr, PIXELS: tl.constexpr, ACC: tl.constexpr):
    """Pixels of a split from its tile `first` on."""
    left = tl.minimum(pixels - split * STEPS * PIXELS, STEPS * PIXELS) - first * PIXELS
    return tl.maximum(left, 0).to(ACC)


@triton.jit
def style_epilogue_sums_kernel(
    x_ptr,
    dy_ptr,
    ddx_ptr,
    noise_ptr,
    strength_ptr,
    b_ptr,
    mean_ptr,
    rstd_ptr,
    partial_ptr,
    planes,
    channels,
    pixels,
    channel_stride,
    pixel_stride,
    noise_stride,
    strength_stride,
    alpha: tl.float64,
    gain: tl.float64,
    ORDER: tl.constexpr,
    SPLITS: tl.constexpr,
    STEPS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    blocks = tl.cdiv(channels, CHANNELS)
    n, split = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    c = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    start = n * channels * pixels + c.to(tl.int64) * channel_stride  # [CHANNELS], of pixel 0
    strength = _of_channel(strength_ptr, c * strength_stride, known, 1.0, ACC)
    bias = _of_channel(b_ptr, c, known, 0.0, ACC)
    if ORDER > 0:
        mean = _of_channel(mean_ptr, n * channels + c, known, 0.0, ACC)
        rstd = _of_channel(rstd_ptr, n * channels + c, known, 0.0, ACC)
    s0 = tl.zeros([CHANNELS], ACC)
    s1, s2, s3, s4 = s0, s0, s0, s0
    for step in range(STEPS):
        pixel = (split * STEPS + step) * PIXELS + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & known[None, :]
        at = start[None, :] + pixel[:, None].to(tl.int64) * pixel_stride
        u = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC) + bias
        if noise_ptr is not None:
            u += strength * tl.load(noise_ptr + n * noise_stride + pixel, mask=pixel < pixels, other=0.0)[:, None]
        slope = _slope(u, alpha, gain, ACC)
        if ORDER == 0:  # s0: mean so far, s1: squares around it
            before = _count(split, 0, pixels, STEPS, PIXELS, ACC) - _count(split, step, pixels, STEPS, PIXELS, ACC)
            after = _count(split, 0, pixels, STEPS, PIXELS, ACC) - _count(split, step + 1, pixels, STEPS, PIXELS, ACC)
            number = after - before
            a = tl.where(inside, u * slope, 0.0)
            own = tl.sum(a, axis=0) / tl.maximum(number, 1.0)
            around = tl.where(inside, a - own[None, :], 0.0)
            off = own - s0
            part = number / tl.maximum(after, 1.0)
            s0 += off * part
            s1 += tl.sum(around * around, axis=0) + off * off * before * part
        else:
            z = (u * slope - mean) * rstd
            dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC)
            s0 += tl.sum(dy, axis=0)
            s1 += tl.sum(dy * z, axis=0)
            if ORDER == 2:
                h = tl.load(ddx_ptr + at, mask=inside, other=0.0).to(ACC) * slope
                s2 += tl.sum(h, axis=0)
                s3 += tl.sum(h * z, axis=0)
                s4 += tl.sum(h * dy, axis=0)
    to = partial_ptr + split * planes + n * channels + c
    tl.store(to, s0, mask=known)
    tl.store(to + SPLITS * planes, s1, mask=known)
    if ORDER == 2:
        tl.store(to + 2 * SPLITS * planes, s2, mask=known)
        tl.store(to + 3 * SPLITS * planes, s3, mask=known)
        tl.store(to + 4 * SPLITS * planes, s4, mask=known)


@triton.jit
def _joined(partial_ptr, k, at, known, planes, SPLITS: tl.constexpr):
    """Sum k of all splits, [1, CHANNELS]."""
    split = k * SPLITS + tl.arange(0, SPLITS)
    parts = tl.load(partial_ptr + split[:, None] * planes + at[None, :], mask=known[None, :], other=0.0)
    return tl.sum(parts, axis=0)[None, :]


@triton.jit
def style_epilogue_apply_kernel(
    x_ptr,
    dy_ptr,
    ddx_ptr,
    noise_ptr,
    strength_ptr,
    b_ptr,
    scale_ptr,
    shift_ptr,
    ddscale_ptr,
    mean_ptr,
    rstd_ptr,
    partial_ptr,
    first_ptr,
    second_ptr,
    dscale_ptr,
    dshift_ptr,
    total_ptr,
    planes,
    channels,
    pixels,
    channel_stride,
    pixel_stride,
    noise_stride,
    strength_stride,
    alpha: tl.float64,
    gain: tl.float64,
    eps: tl.float64,
    ORDER: tl.constexpr,
    SPLITS: tl.constexpr,
    STEPS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    blocks = tl.cdiv(channels, CHANNELS)
    n, split = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1)
    c = tl.program_id(0) % blocks * CHANNELS + tl.arange(0, CHANNELS)
    known = c < channels
    plane = n * channels + c
    start = n * channels * pixels + c.to(tl.int64) * channel_stride
    strength = _of_channel(strength_ptr, c * strength_stride, known, 1.0, ACC)
    bias = _of_channel(b_ptr, c, known, 0.0, ACC)
    scale = _of_channel(scale_ptr, plane, known, 1.0, ACC)
    shift = _of_channel(shift_ptr, plane, known, 0.0, ACC)
    number = pixels.to(ACC)
    writes = known & (split == 0)
    if ORDER == 0:
        every = tl.arange(0, SPLITS)
        counts = _count(every, 0, pixels, STEPS, PIXELS, ACC)[:, None]
        means = tl.load(partial_ptr + every[:, None] * planes + plane[None, :], mask=known[None, :], other=0.0)
        mean = (tl.sum(counts * means, axis=0) / number)[None, :]
        off = means - mean
        squares = _joined(partial_ptr, 1, plane, known, planes, SPLITS) + tl.sum(counts * off * off, axis=0)[None, :]
        rstd = 1.0 / tl.sqrt(squares / number + tl.full((), eps, ACC))
        tl.store(mean_ptr + plane[None, :], mean, mask=writes[None, :])
        tl.store(rstd_ptr + plane[None, :], rstd, mask=writes[None, :])
    else:
        mean = _of_channel(mean_ptr, plane, known, 0.0, ACC)
        rstd = _of_channel(rstd_ptr, plane, known, 0.0, ACC)
        mean_dy = _joined(partial_ptr, 0, plane, known, planes, SPLITS) / number
        dy_z = _joined(partial_ptr, 1, plane, known, planes, SPLITS) / number
    k = scale * rstd
    if ORDER == 1:
        tl.store(dshift_ptr + plane[None, :], mean_dy * number, mask=writes[None, :])
        tl.store(dscale_ptr + plane[None, :], dy_z * number, mask=writes[None, :])
    if ORDER == 2:
        ddscale = _of_channel(ddscale_ptr, plane, known, 0.0, ACC)
        mean_h = _joined(partial_ptr, 2, plane, known, planes, SPLITS) / number
        h_z = _joined(partial_ptr, 3, plane, known, planes, SPLITS) / number
        rest = _joined(partial_ptr, 4, plane, known, planes, SPLITS) / number - mean_dy * mean_h - dy_z * h_z
        tl.store(dscale_ptr + plane[None, :], rstd * number * rest, mask=writes[None, :])
        ddy_z = ddscale - k * h_z
        x_z = -k * rstd * (rest - 2.0 * dy_z * h_z) - ddscale * rstd * dy_z
    total = tl.zeros([CHANNELS], ACC)
    noise_total = total
    for step in range(STEPS):
        pixel = (split * STEPS + step) * PIXELS + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & known[None, :]
        at = start[None, :] + pixel[:, None].to(tl.int64) * pixel_stride
        u = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC) + bias
        if noise_ptr is not None:
            noise = tl.load(noise_ptr + n * noise_stride + pixel, mask=pixel < pixels, other=0.0)[:, None]
            u += strength * noise
        slope = _slope(u, alpha, gain, ACC)
        centred = u * slope - mean
        if ORDER == 0:
            result = centred * k + shift
            tl.store(first_ptr + at, result.to(first_ptr.dtype.element_ty), mask=inside)
        else:
            z = centred * rstd
            dy = tl.load(dy_ptr + at, mask=inside, other=0.0).to(ACC) - mean_dy
            if ORDER == 1:
                result = slope * k * (dy - z * dy_z)
                tl.store(first_ptr + at, result.to(first_ptr.dtype.element_ty), mask=inside)
            else:
                h = tl.load(ddx_ptr + at, mask=inside, other=0.0).to(ACC) * slope - mean_h
                ddy = k * h + ddy_z * z + shift
                tl.store(first_ptr + at, ddy.to(first_ptr.dtype.element_ty), mask=inside)
                result = slope * (rstd * ddy_z * dy - k * rstd * dy_z * h + x_z * z)
                tl.store(second_ptr + at, result.to(second_ptr.dtype.element_ty), mask=inside)
            if total_ptr is not None:
                result = tl.where(inside, result, 0.0)
                total += tl.sum(result, axis=0)
                if noise_ptr is not None:
                    noise_total += tl.sum(result * noise, axis=0)
    if ORDER > 0 and total_ptr is not None:
        to = total_ptr + split * planes + plane
        tl.store(to, total, mask=known)
        tl.store(to + SPLITS * planes, noise_total, mask=known)
