"""minibatch_stddev as Triton kernels.

A sample is [outer, F, inner] in memory: outer is 1 in NCHW and the pixels in channels_last. A program takes a block of
places of one appended channel in all samples of one group at once, [members, block], so x is read once; it leaves the
sum of its deviations, and a second, small launch adds these up and writes the appended channels. No atomics, so two
runs agree bit for bit.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _memory_format

TILE = 2048  # elements that a program holds at once


class Launch(NamedTuple):
    """Where samples and channels lie, and how the work is cut; in the order of the kernels' arguments."""

    groups: int
    members: int
    channels: int
    outer: int
    inner: int
    appended: int  # elements that a sample of y has more
    gap: int  # of those, after each outer place
    blocks: int  # of a group and a channel
    block: int

    @classmethod
    def of(cls, x: torch.Tensor, group_size: int, num_channels: int) -> Launch:
        n, c, h, w = x.shape
        last = _is_channels_last(x)
        outer, inner = (h * w, c // num_channels) if last else (1, c // num_channels * h * w)
        block = max(1, min(TILE // triton.next_power_of_2(group_size), triton.next_power_of_2(outer * inner)))
        blocks = triton.cdiv(outer * inner, block)
        return cls(
            n // group_size, group_size, num_channels, outer, inner,
            num_channels * h * w, num_channels if last else 0, blocks, block,
        )  # fmt: skip

    @property
    def grid(self) -> tuple[int]:
        return (self.groups * self.channels * self.blocks,)

    def constants(self, x: torch.Tensor, contiguous: bool, unbiased: bool) -> dict[str, Any]:
        return {
            "DIVISOR": max(self.members - 1, 1) if unbiased else self.members,
            "CONTIGUOUS": contiguous,
            "MEMBERS": triton.next_power_of_2(self.members),
            "BLOCK": self.block,
            "ACC": tl.float64 if x.dtype == torch.float64 else tl.float32,
            "WIDE": x.numel() * 2 >= 2**31,
        }


def minibatch_stddev(
    x: torch.Tensor, group_size: int, num_channels: int, contiguous: bool, unbiased: bool
) -> torch.Tensor:
    """[N, C, H, W] -> [N, C + F, H, W]; arguments as in `gankern.minibatch_stddev`, all given."""
    y = _image(x, x.shape[1] + num_channels)
    if y.numel() == 0:
        return y.to(x.dtype)
    launch = Launch.of(x, group_size, num_channels)
    partial = _partial(x, launch)
    with torch.cuda.device_of(x):
        stddev_fwd_kernel[launch.grid](_dense(x), y, partial, *launch[:-1], **launch.constants(x, contiguous, unbiased))
    _append(y, partial, launch, contiguous, x)
    return y.to(x.dtype)


def minibatch_stddev_backward(
    dy: torch.Tensor, x: torch.Tensor, group_size: int, num_channels: int, contiguous: bool, unbiased: bool
) -> torch.Tensor:
    """dx [N, C, H, W] for dy [N, C + F, H, W]."""
    dx = _image(x, x.shape[1])
    if dx.numel() == 0:
        return dx.to(x.dtype)
    launch = Launch.of(x, group_size, num_channels)
    gradient = _appended_gradient(dy, launch, contiguous)
    dy = dy.contiguous(memory_format=_memory_format(x))
    with torch.cuda.device_of(x):
        stddev_bwd_kernel[launch.grid](
            _dense(x), dy, gradient, dx, *launch[:-1], **launch.constants(x, contiguous, unbiased)
        )
    return dx.to(x.dtype)


def minibatch_stddev_backward_backward(
    ddx: torch.Tensor,
    dy: torch.Tensor,
    x: torch.Tensor,
    group_size: int,
    num_channels: int,
    contiguous: bool,
    unbiased: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of dx with respect to dy [N, C + F, H, W] and x [N, C, H, W], for ddx in its place."""
    grad_dy, grad_x = _image(x, dy.shape[1]), _image(x, x.shape[1])
    if grad_dy.numel() == 0:
        return grad_dy.to(x.dtype), grad_x.to(x.dtype)
    launch = Launch.of(x, group_size, num_channels)
    gradient = _appended_gradient(dy, launch, contiguous)
    partial = _partial(x, launch)
    ddx = ddx.contiguous(memory_format=_memory_format(x))
    with torch.cuda.device_of(x):
        stddev_bwd_bwd_kernel[launch.grid](
            _dense(x), ddx, gradient, grad_x, grad_dy, partial,
            *launch[:-1], **launch.constants(x, contiguous, unbiased)
        )  # fmt: skip
    _append(grad_dy, partial, launch, contiguous, x)
    return grad_dy.to(x.dtype), grad_x.to(x.dtype)


def _is_channels_last(x: torch.Tensor) -> bool:
    return _memory_format(x) is torch.channels_last


def _dense(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=_memory_format(x))


def _image(x: torch.Tensor, channels: int) -> torch.Tensor:
    """Fresh memory laid out as x; float32 for bfloat16 on the CPU: Triton's interpreter would cut off, not round."""
    dtype = torch.float32 if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x.dtype
    shape = [x.shape[0], channels, x.shape[2], x.shape[3]]
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=_memory_format(x))


def _partial(x: torch.Tensor, launch: Launch) -> torch.Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty([launch.groups * launch.channels, launch.blocks], dtype=dtype, device=x.device)


def _appended_gradient(dy: torch.Tensor, launch: Launch, contiguous: bool) -> torch.Tensor:
    """The gradient of each deviation [groups * F], from that of the appended channels."""
    total = torch.float64 if dy.dtype == torch.float64 else torch.float32
    groups = [launch.groups, launch.members] if contiguous else [launch.members, launch.groups]
    appended = dy[:, -launch.channels :].unflatten(0, groups)  # [groups and members, F, H, W]
    gradient = appended.sum([1 if contiguous else 0, 3, 4], dtype=total)  # [groups, F]
    return gradient / (launch.outer * launch.inner)


def _append(y: torch.Tensor, partial: torch.Tensor, launch: Launch, contiguous: bool, x: torch.Tensor) -> None:
    """Writes the sums of `partial`, over the number of places, into the appended channels of y."""
    n, c, h, w = y.shape
    pixels, last = h * w, _is_channels_last(x)
    at, channel, pixel = (c - launch.channels, 1, c) if last else ((c - launch.channels) * pixels, pixels, 1)
    with torch.cuda.device_of(y):
        append_kernel[(n * launch.channels,)](
            y, partial, launch.groups, launch.members, launch.channels, launch.blocks, pixels,
            c * pixels, at, channel, pixel, launch.outer * launch.inner,
            CONTIGUOUS=contiguous,
            PARTS=min(triton.next_power_of_2(launch.blocks), 1024),
            REPEAT_PARTS=triton.cdiv(launch.blocks, 1024),
            BLOCK=min(triton.next_power_of_2(pixels), 1024),
            REPEAT=triton.cdiv(pixels, 1024),
            WIDE=y.numel() * 2 >= 2**31,
        )  # fmt: skip


@triton.jit
def _places(
    groups, members, channels, outer, inner, appended, gap, blocks,
    CONTIGUOUS: tl.constexpr, MEMBERS: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Where elements lie in x and in y [MEMBERS, BLOCK], which of them exist, and group * channels + channel."""
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    part = program // blocks
    group, channel = part // channels, part % channels
    place = (program % blocks) * BLOCK + tl.arange(0, BLOCK)  # [BLOCK]
    member = tl.arange(0, MEMBERS)  # [MEMBERS]
    if CONTIGUOUS:
        sample = group * members + member
    else:
        sample = member * groups + group
    inside = (member < members)[:, None] & (place < outer * inner)[None, :]
    row = place // inner
    in_sample = (row * channels + channel) * inner + place % inner
    at = sample[:, None] * (outer * channels * inner) + in_sample[None, :]
    return at, at + sample[:, None] * appended + (row * gap)[None, :], inside, part


@triton.jit
def _spread(x, inside, members, DIVISOR: tl.constexpr):
    """x - mean over the group [MEMBERS, BLOCK], and sqrt(variance + eps) [BLOCK]."""
    mean = tl.sum(x, axis=0) / members  # [BLOCK]
    d = tl.where(inside, x - mean[None, :], 0.0)
    # The rounding of the mean is taken out again: in a group of two, the second derivative is the rest of a difference
    # that vanishes where the deviations are exactly opposite.
    d = tl.where(inside, d - (tl.sum(d, axis=0) / members)[None, :], 0.0)
    return d, tl.sqrt(tl.sum(d * d, axis=0) / DIVISOR + 1e-8)


@triton.jit
def stddev_fwd_kernel(
    x_ptr, y_ptr, partial_ptr, groups, members, channels, outer, inner, appended, gap, blocks,
    DIVISOR: tl.constexpr, CONTIGUOUS: tl.constexpr, MEMBERS: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    at, at_y, inside, _ = _places(
        groups, members, channels, outer, inner, appended, gap, blocks, CONTIGUOUS, MEMBERS, BLOCK, WIDE
    )
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
    tl.store(y_ptr + at_y, x.to(y_ptr.dtype.element_ty), mask=inside)
    _, deviation = _spread(x, inside, members, DIVISOR)
    first = (tl.program_id(0) % blocks) * BLOCK
    deviation = tl.where(first + tl.arange(0, BLOCK) < outer * inner, deviation, 0.0)
    tl.store(partial_ptr + tl.program_id(0), tl.sum(deviation, axis=0))


@triton.jit
def stddev_bwd_kernel(
    x_ptr, dy_ptr, gradient_ptr, dx_ptr, groups, members, channels, outer, inner, appended, gap, blocks,
    DIVISOR: tl.constexpr, CONTIGUOUS: tl.constexpr, MEMBERS: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    at, at_y, inside, part = _places(
        groups, members, channels, outer, inner, appended, gap, blocks, CONTIGUOUS, MEMBERS, BLOCK, WIDE
    )
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
    dy = tl.load(dy_ptr + at_y, mask=inside, other=0.0).to(ACC)
    d, deviation = _spread(x, inside, members, DIVISOR)
    slope = tl.load(gradient_ptr + part).to(ACC) / DIVISOR / deviation  # [BLOCK]
    tl.store(dx_ptr + at, (dy + d * slope[None, :]).to(dx_ptr.dtype.element_ty), mask=inside)


@triton.jit
def stddev_bwd_bwd_kernel(
    x_ptr, ddx_ptr, gradient_ptr, grad_x_ptr, grad_dy_ptr, partial_ptr,
    groups, members, channels, outer, inner, appended, gap, blocks,
    DIVISOR: tl.constexpr, CONTIGUOUS: tl.constexpr, MEMBERS: tl.constexpr, BLOCK: tl.constexpr,
    ACC: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    at, at_y, inside, part = _places(
        groups, members, channels, outer, inner, appended, gap, blocks, CONTIGUOUS, MEMBERS, BLOCK, WIDE
    )
    x = tl.load(x_ptr + at, mask=inside, other=0.0).to(ACC)
    ddx = tl.load(ddx_ptr + at, mask=inside, other=0.0).to(ACC)
    tl.store(grad_dy_ptr + at_y, ddx.to(grad_dy_ptr.dtype.element_ty), mask=inside)
    d, deviation = _spread(x, inside, members, DIVISOR)
    ddx = tl.where(inside, ddx - (tl.sum(ddx, axis=0) / members)[None, :], 0.0)
    q = tl.sum(d * ddx, axis=0) / DIVISOR / deviation  # [BLOCK]
    tl.store(partial_ptr + tl.program_id(0), tl.sum(q, axis=0))
    slope = tl.load(gradient_ptr + part).to(ACC) / DIVISOR / deviation  # [BLOCK]
    curved = ddx - d * (q / deviation)[None, :]
    tl.store(grad_x_ptr + at, (slope[None, :] * curved).to(grad_x_ptr.dtype.element_ty), mask=inside)


@triton.jit
def append_kernel(
    y_ptr, partial_ptr, groups, members, channels, blocks, pixels, sample_size, at, channel_step, pixel_step, count,
    CONTIGUOUS: tl.constexpr, PARTS: tl.constexpr, REPEAT_PARTS: tl.constexpr, BLOCK: tl.constexpr,
    REPEAT: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    sample, channel = program // channels, program % channels
    if CONTIGUOUS:
        group = sample // members
    else:
        group = sample % groups
    total = tl.zeros([PARTS], partial_ptr.dtype.element_ty)
    for i in range(REPEAT_PARTS):
        k = i * PARTS + tl.arange(0, PARTS)
        total += tl.load(partial_ptr + (group * channels + channel) * blocks + k, mask=k < blocks, other=0.0)
    value = (tl.sum(total, axis=0) / count).to(y_ptr.dtype.element_ty)
    start = y_ptr + sample * sample_size + at + channel * channel_step
    for i in range(REPEAT):
        pixel = i * BLOCK + tl.arange(0, BLOCK)
        tl.store(start + pixel * pixel_step, tl.zeros([BLOCK], value.dtype) + value, mask=pixel < pixels)
