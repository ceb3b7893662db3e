"""conditional_batch_norm as Triton kernels.

A program makes a tile of channels x pixels of one image, whichever of the two are neighbours in memory. Sums are
partial sums per program and a `torch.sum` over those: no atomics, so two runs agree bit for bit. What follows from the
sums, a few numbers per sample and channel, is plain PyTorch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _memory_format

BLOCK = 1024  # elements of a tile


class Tiles(NamedTuple):
    """Dense images [N, C, P] with P pixels: in which tiles, and where their elements lie."""

    n: int
    c: int
    p: int
    w: int
    stride_c: int
    stride_p: int
    block_c: int
    block_p: int

    @classmethod
    def of(cls, x: torch.Tensor) -> Tiles:
        n, c, h, w = x.shape
        p = h * w
        if _memory_format(x) is torch.channels_last:
            block_c = min(triton.next_power_of_2(c), 128)
            return cls(n, c, p, w, 1, c, block_c, min(triton.next_power_of_2(p), BLOCK // block_c))
        block_p = min(triton.next_power_of_2(p), BLOCK)
        return cls(n, c, p, w, p, 1, min(triton.next_power_of_2(c), BLOCK // block_p), block_p)

    @property
    def grid(self) -> tuple[int, int]:
        return triton.cdiv(self.c, self.block_c) * self.p_blocks, self.n

    @property
    def p_blocks(self) -> int:
        return triton.cdiv(self.p, self.block_p)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        return self.c, self.p, self.w, self.stride_c, self.stride_p

    def options(self, x: torch.Tensor) -> dict[str, Any]:
        accumulator = tl.float64 if x.dtype == torch.float64 else tl.float32
        return {"BLOCK_C": self.block_c, "BLOCK_P": self.block_p, "ACC": accumulator}


def conditional_batch_norm_moments(x: torch.Tensor) -> torch.Tensor:
    """[3, C]: mean, (unused), biased variance. Zeros for an empty batch."""
    if x.numel() == 0:
        return x.new_zeros([3, x.shape[1]], dtype=_total(x))
    x = x.contiguous(memory_format=_memory_format(x))
    tiles = Tiles.of(x)
    partial = x.new_empty([2, tiles.p_blocks, tiles.n, tiles.c], dtype=_total(x))
    with torch.cuda.device_of(x):
        batch_norm_moments_kernel[tiles.grid](x, partial, tiles.n, *tiles.sizes, **tiles.options(x))
    first = torch.arange(tiles.p_blocks, device=x.device) * tiles.block_p
    counts = (tiles.p - first).clamp(max=tiles.block_p).to(partial.dtype)[:, None, None]  # [p_blocks, 1, 1]
    means, m2 = partial
    mean = (means * counts).sum([0, 1]) / (tiles.n * tiles.p)  # [C]
    m2 = (m2 + counts * (means - mean).square()).sum([0, 1])  # [C]
    return torch.stack([mean, mean, m2 / (tiles.n * tiles.p)])


def conditional_batch_norm(
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    eps: float,
    relu: bool,
    up: int,
    training: bool,
    group: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y, and the statistics used [3, C]: mean, rstd, biased variance."""
    if mean is None or var is None:
        mean, _, var = conditional_batch_norm_moments(x)
    statistics = torch.stack([mean, (var + eps).rsqrt(), var])
    y = _empty_image(x, up)
    if y.numel() > 0:
        tiles = Tiles.of(y if up == 1 else _empty_image(x, 1))
        x = x.contiguous(memory_format=_memory_format(x))
        with torch.cuda.device_of(x):
            batch_norm_normalise_kernel[tiles.grid](
                x,
                gain.contiguous(),
                bias.contiguous(),
                statistics,
                y,
                *tiles.sizes,
                RELU=relu,
                UP=up,
                **tiles.options(x),
            )
    return y.to(x.dtype), statistics


def conditional_batch_norm_backward_sums(
    dy: torch.Tensor,
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    ddx: torch.Tensor | None,
    relu: bool,
    up: int,
) -> torch.Tensor:
    """[2 or 5, N, C]: sums over the pixels of g, g xhat, and where ddx is given of ddx, ddx xhat, g ddx."""
    kinds = 2 if ddx is None else 5
    if x.numel() == 0:
        return x.new_zeros([kinds, *x.shape[:2]], dtype=_total(x))
    layout = _memory_format(x)
    x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)
    tiles = Tiles.of(x)
    partial = x.new_empty([kinds, tiles.p_blocks, tiles.n, tiles.c], dtype=_total(x))
    with torch.cuda.device_of(x):
        batch_norm_sums_kernel[tiles.grid](
            dy,
            x,
            None if ddx is None else ddx.contiguous(memory_format=layout),
            gain.contiguous(),
            bias.contiguous(),
            statistics.contiguous(),
            partial,
            tiles.n,
            *tiles.sizes,
            RELU=relu,
            UP=up,
            **tiles.options(x),
        )
    return partial.sum(1)


def conditional_batch_norm_backward_combine(
    dy: torch.Tensor,
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    ddx: torch.Tensor | None,
    ddgain: torch.Tensor | None,
    ddbias: torch.Tensor | None,
    means: torch.Tensor | None,
    relu: bool,
    up: int,
    training: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dx, or where ddx is given the gradients by x and dy; and the sums, unless the means are known already."""
    sums = x.new_empty([0], dtype=_total(x))
    if means is None:
        sums = conditional_batch_norm_backward_sums(dy, x, gain, bias, statistics, ddx, relu, up)
        means = _means(sums, gain, ddgain, x.shape[2] * x.shape[3])
        means = means if training else torch.zeros_like(means)
    grad_x = _empty_image(x, 1)
    grad_dy = x.new_empty([0]) if ddx is None else _empty_image(x, up)
    if x.numel() > 0:
        coefficients = _coefficients(gain, statistics[1], means, ddgain, ddbias)
        layout, tiles = _memory_format(x), Tiles.of(grad_x)
        with torch.cuda.device_of(x):
            batch_norm_combine_kernel[tiles.grid](
                dy.contiguous(memory_format=layout),
                x.contiguous(memory_format=layout),
                None if ddx is None else ddx.contiguous(memory_format=layout),
                gain.contiguous(),
                bias.contiguous(),
                statistics.contiguous(),
                coefficients,
                grad_x,
                None if ddx is None else grad_dy,
                tiles.n,
                *tiles.sizes,
                RELU=relu,
                UP=up,
                **tiles.options(x),
            )
    return grad_x.to(x.dtype), grad_dy.to(x.dtype), sums


def _means(sums: torch.Tensor, gain: torch.Tensor, p: torch.Tensor | None, pixels: int) -> torch.Tensor:
    """[2 or 7, C], in the order of csrc/math/conditional_batch_norm.h."""
    rows = [gain * sums[0], gain * sums[1]]
    if p is not None:
        rows += [sums[2], sums[3], gain * sums[4], p * sums[0], p * sums[1]]
    return torch.stack(rows).sum(1) / max(1, gain.shape[0] * pixels)


def _coefficients(
    gain: torch.Tensor, rstd: torch.Tensor, means: torch.Tensor, p: torch.Tensor | None, q: torch.Tensor | None
) -> torch.Tensor:
    """[3 or 7, N, C]; derived in csrc/math/conditional_batch_norm.h."""
    if p is None or q is None:
        rows = [rstd * gain, -rstd * rstd * means[1], -rstd * means[0]]
    else:
        v, vx, h, hx, vh, pg, pgx = means
        e_h, e_g = -rstd * vx, p - rstd * hx * gain
        mean_e = e_h * h + pg - rstd * hx * v
        mean_ex = e_h * hx + pgx - rstd * hx * vx
        of_rstd = vh - h * v - hx * vx
        rows = [rstd * e_g, -rstd * rstd * (mean_ex + rstd * of_rstd), -rstd * mean_e, rstd * e_h]
        rows += [gain * rstd, (p - gain * rstd * hx) * rstd, q - gain * rstd * h]
    return torch.stack([row.expand(gain.shape) for row in rows])


def _total(x: torch.Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _empty_image(x: torch.Tensor, up: int) -> torch.Tensor:
    """bfloat16 is written as float32 on the CPU: Triton's interpreter would cut off, not round."""
    dtype = torch.float32 if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x.dtype
    n, c, h, w = x.shape
    return torch.empty([n, c, up * h, up * w], dtype=dtype, device=x.device, memory_format=_memory_format(x))


@triton.jit
def _tile(C, P, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr):
    """The channels and pixels of this program, and the number of its image."""
    p_blocks = tl.cdiv(P, BLOCK_P)
    c = (tl.program_id(0) // p_blocks) * BLOCK_C + tl.arange(0, BLOCK_C)
    p = (tl.program_id(0) % p_blocks) * BLOCK_P + tl.arange(0, BLOCK_P)
    return c, p, tl.program_id(1).to(tl.int64)


@triton.jit
def _upper_left(c, p, W, stride_c, stride_p, UP: tl.constexpr):
    """Where in an upsampled image the first copy of a pixel lies."""
    if UP == 2:
        p = (p // W) * (4 * W) + (p % W) * 2
    return c[:, None] * (stride_c * (UP * UP if stride_p == 1 else 1)) + p[None, :] * stride_p


@triton.jit
def _affine(x, mean, row, gain_ptr, bias_ptr, rstd, c, inside, ACC: tl.constexpr):
    """x - mean, and what relu sees: (x - mean) * gain * rstd + bias."""
    scale = tl.load(gain_ptr + row + c, mask=inside, other=0.0) * rstd
    centred = x - mean[:, None]
    return centred, centred * scale[:, None] + tl.load(bias_ptr + row + c, mask=inside, other=0.0)[:, None]


@triton.jit
def _gathered(dy_ptr, at, W, stride_p, mask, UP: tl.constexpr, ACC: tl.constexpr):
    """dy, summed over the copies of a pixel."""
    g = tl.load(dy_ptr + at, mask=mask, other=0.0).to(ACC)
    if UP == 2:
        g += tl.load(dy_ptr + at + stride_p, mask=mask, other=0.0).to(ACC)
        below = at + 2 * W * stride_p
        lower = tl.load(dy_ptr + below, mask=mask, other=0.0).to(ACC)
        g += lower + tl.load(dy_ptr + below + stride_p, mask=mask, other=0.0).to(ACC)
    return g


@triton.jit
def _spread(y_ptr, at, values, W, stride_p, mask, UP: tl.constexpr):
    values = values.to(y_ptr.dtype.element_ty)
    tl.store(y_ptr + at, values, mask=mask)
    if UP == 2:
        tl.store(y_ptr + at + stride_p, values, mask=mask)
        tl.store(y_ptr + at + 2 * W * stride_p, values, mask=mask)
        tl.store(y_ptr + at + (2 * W + 1) * stride_p, values, mask=mask)


@triton.jit
def batch_norm_moments_kernel(
    x_ptr, partial_ptr, N, C, P, W, stride_c, stride_p, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, ACC: tl.constexpr
):
    c, p, n = _tile(C, P, BLOCK_C, BLOCK_P)
    mask = (c < C)[:, None] & (p < P)[None, :]
    at = c[:, None] * stride_c + p[None, :] * stride_p
    x = tl.load(x_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
    count = tl.sum(tl.where(p < P, 1.0, 0.0), axis=0).to(ACC)
    mean = tl.sum(x, axis=1) / count
    centred = tl.where(mask, x - mean[:, None], 0.0)
    p_blocks = tl.cdiv(P, BLOCK_P)
    row = (tl.program_id(0) % p_blocks).to(tl.int64) * N + n
    tl.store(partial_ptr + row * C + c, mean, mask=c < C)
    tl.store(partial_ptr + (p_blocks * N + row) * C + c, tl.sum(centred * centred, axis=1), mask=c < C)


@triton.jit
def batch_norm_normalise_kernel(
    x_ptr, gain_ptr, bias_ptr, statistics_ptr, y_ptr, C, P, W, stride_c, stride_p,
    RELU: tl.constexpr, UP: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    c, p, n = _tile(C, P, BLOCK_C, BLOCK_P)
    mask = (c < C)[:, None] & (p < P)[None, :]
    mean = tl.load(statistics_ptr + c, mask=c < C, other=0.0)
    rstd = tl.load(statistics_ptr + C + c, mask=c < C, other=0.0)
    at = c[:, None] * stride_c + p[None, :] * stride_p
    x = tl.load(x_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
    _, u = _affine(x, mean, n * C, gain_ptr, bias_ptr, rstd, c, c < C, ACC)
    if RELU:
        u = tl.where(u <= 0.0, 0.0, u)  # NaN passes
    to = _upper_left(c, p, W, stride_c, stride_p, UP)
    _spread(y_ptr + n * C * P * UP * UP, to, u, W, stride_p, mask, UP)


@triton.jit
def batch_norm_sums_kernel(
    dy_ptr, x_ptr, ddx_ptr, gain_ptr, bias_ptr, statistics_ptr, partial_ptr, N, C, P, W, stride_c, stride_p,
    RELU: tl.constexpr, UP: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    c, p, n = _tile(C, P, BLOCK_C, BLOCK_P)
    mask = (c < C)[:, None] & (p < P)[None, :]
    mean = tl.load(statistics_ptr + c, mask=c < C, other=0.0)
    rstd = tl.load(statistics_ptr + C + c, mask=c < C, other=0.0)
    at = c[:, None] * stride_c + p[None, :] * stride_p
    x = tl.load(x_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
    centred, u = _affine(x, mean, n * C, gain_ptr, bias_ptr, rstd, c, c < C, ACC)
    to = _upper_left(c, p, W, stride_c, stride_p, UP)
    g = _gathered(dy_ptr + n * C * P * UP * UP, to, W, stride_p, mask, UP, ACC)
    if RELU:
        g = tl.where(u <= 0.0, 0.0, g)
    p_blocks = tl.cdiv(P, BLOCK_P)
    kind = p_blocks.to(tl.int64) * N * C
    out = partial_ptr + ((tl.program_id(0) % p_blocks).to(tl.int64) * N + n) * C + c
    tl.store(out, tl.sum(g, axis=1), mask=c < C)
    tl.store(out + kind, tl.sum(g * centred, axis=1) * rstd, mask=c < C)
    if ddx_ptr is not None:
        h = tl.load(ddx_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
        tl.store(out + 2 * kind, tl.sum(h, axis=1), mask=c < C)
        tl.store(out + 3 * kind, tl.sum(h * centred, axis=1) * rstd, mask=c < C)
        tl.store(out + 4 * kind, tl.sum(g * h, axis=1), mask=c < C)


@triton.jit
def batch_norm_combine_kernel(
    dy_ptr, x_ptr, ddx_ptr, gain_ptr, bias_ptr, statistics_ptr, coefficients_ptr, grad_x_ptr, grad_dy_ptr,
    N, C, P, W, stride_c, stride_p,
    RELU: tl.constexpr, UP: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    c, p, n = _tile(C, P, BLOCK_C, BLOCK_P)
    mask = (c < C)[:, None] & (p < P)[None, :]
    mean = tl.load(statistics_ptr + c, mask=c < C, other=0.0)
    rstd = tl.load(statistics_ptr + C + c, mask=c < C, other=0.0)
    at = c[:, None] * stride_c + p[None, :] * stride_p
    x = tl.load(x_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
    centred, u = _affine(x, mean, n * C, gain_ptr, bias_ptr, rstd, c, c < C, ACC)
    to = _upper_left(c, p, W, stride_c, stride_p, UP)
    g = _gathered(dy_ptr + n * C * P * UP * UP, to, W, stride_p, mask, UP, ACC)
    if RELU:
        g = tl.where(u <= 0.0, 0.0, g)
    k = coefficients_ptr + n * C + c
    kind = N * C
    result = g * tl.load(k, mask=c < C, other=0.0)[:, None]
    result += centred * tl.load(k + kind, mask=c < C, other=0.0)[:, None]
    result += tl.load(k + 2 * kind, mask=c < C, other=0.0)[:, None]
    if ddx_ptr is not None:
        h = tl.load(ddx_ptr + n * C * P + at, mask=mask, other=0.0).to(ACC)
        result += h * tl.load(k + 3 * kind, mask=c < C, other=0.0)[:, None]
        cotangent = h * tl.load(k + 4 * kind, mask=c < C, other=0.0)[:, None]
        cotangent += centred * tl.load(k + 5 * kind, mask=c < C, other=0.0)[:, None]
        cotangent += tl.load(k + 6 * kind, mask=c < C, other=0.0)[:, None]
        if RELU:
            cotangent = tl.where(u <= 0.0, 0.0, cotangent)
        _spread(grad_dy_ptr + n * C * P * UP * UP, to, cotangent, W, stride_p, mask, UP)
    tl.store(grad_x_ptr + n * C * P + at, result.to(grad_x_ptr.dtype.element_ty), mask=mask)
