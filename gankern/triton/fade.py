"""fade as Triton kernels: an element at a time, or four pixels with the one of half the size that lies over them.

Memory is seen as [rows, columns, g], g channels being neighbours: one, or all of them where new is channels_last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from gankern.triton.bias_act import _memory_format

BLOCK = 512  # elements of a program, or groups of four


def fade(new: torch.Tensor, old: torch.Tensor | None, alpha: torch.Tensor | None, number: float) -> torch.Tensor:
    """y = alpha * new + (1 - alpha) * old; `number` is alpha without a tensor. old None: new without its details."""
    layout = _memory_format(new)
    new = new.contiguous(memory_format=layout)
    old = None if old is None else old.contiguous(memory_format=layout)
    y = _empty(new, new.shape, layout)
    mode = "detail" if old is None else "same" if old.shape == new.shape else "half"
    _launch(mode, new, old, y, None, alpha, number, layout)
    return y.to(new.dtype)


def fade_backward(
    dy: torch.Tensor, alpha: torch.Tensor | None, number: float, half: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """dnew = alpha * dy and dold = (1 - alpha) * dy, summed up over four pixels if old has half the size."""
    layout = _memory_format(dy)
    dy = dy.contiguous(memory_format=layout)
    n, c, h, w = dy.shape
    dnew = _empty(dy, dy.shape, layout)
    dold = _empty(dy, [n, c, h // 2, w // 2] if half else dy.shape, layout)
    _launch("backward_half" if half else "backward_same", dy, None, dnew, dold, alpha, number, layout)
    return dnew.to(dy.dtype), dold.to(dy.dtype)


def _empty(like: torch.Tensor, shape: torch.Size | list[int], layout: torch.memory_format) -> torch.Tensor:
    cut_off = like.dtype == torch.bfloat16 and like.device.type == "cpu"  # by Triton's interpreter: it does not round
    dtype = torch.float32 if cut_off else like.dtype
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _launch(
    mode: str,
    high: torch.Tensor,
    low: torch.Tensor | None,
    out: torch.Tensor,
    low_out: torch.Tensor | None,
    alpha: torch.Tensor | None,
    number: float,
    layout: torch.memory_format,
) -> None:
    quads = not mode.endswith("same")
    total = out.numel() // 4 if quads else out.numel()
    if total == 0:
        return
    g = out.shape[1] if layout == torch.channels_last else 1
    with torch.cuda.device_of(out):
        fade_kernel[(triton.cdiv(total, BLOCK),)](
            high,
            low,
            out,
            low_out,
            alpha,
            number,
            total,
            out.shape[3] // 2,
            g,
            MODE=mode,
            BLOCK=BLOCK,
            ACC=tl.float64 if high.dtype == torch.float64 else tl.float32,
            WIDE=out.numel() + 4 * BLOCK >= 2**31,
        )


@triton.jit
def fade_kernel(
    high_ptr,
    low_ptr,
    out_ptr,
    low_out_ptr,
    alpha_ptr,
    number: tl.float64,
    total,
    half,
    g,
    MODE: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
    WIDE: tl.constexpr,
):
    program = tl.program_id(0)
    if WIDE:
        program = program.to(tl.int64)
    j = program * BLOCK + tl.arange(0, BLOCK)
    inside = j < total
    if alpha_ptr is not None:
        alpha = tl.load(alpha_ptr).to(ACC)
    else:
        alpha = tl.full((), number, ACC)
    if MODE == "same" or MODE == "backward_same":
        high = tl.load(high_ptr + j, mask=inside, other=0.0).to(ACC)
        if MODE == "same":
            rest = tl.load(low_ptr + j, mask=inside, other=0.0).to(ACC) * (1.0 - alpha)
        else:
            tl.store(low_out_ptr + j, (high * (1.0 - alpha)).to(low_out_ptr.dtype.element_ty), mask=inside)
            rest = tl.zeros([BLOCK], ACC)
        tl.store(out_ptr + j, (high * alpha + rest).to(out_ptr.dtype.element_ty), mask=inside)
    else:
        pixel, channel = j // g, j % g
        row = 2 * half * g
        first = pixel // half * 2 * row + pixel % half * 2 * g + channel
        a = tl.load(high_ptr + first, mask=inside, other=0.0).to(ACC)
        b = tl.load(high_ptr + first + g, mask=inside, other=0.0).to(ACC)
        c = tl.load(high_ptr + first + row, mask=inside, other=0.0).to(ACC)
        d = tl.load(high_ptr + first + row + g, mask=inside, other=0.0).to(ACC)
        both = ((a + b) + (c + d)) * (1.0 - alpha)
        if MODE == "half":
            rest = tl.load(low_ptr + j, mask=inside, other=0.0).to(ACC) * (1.0 - alpha)
        elif MODE == "detail":
            rest = both * 0.25
        else:
            tl.store(low_out_ptr + j, both.to(low_out_ptr.dtype.element_ty), mask=inside)
            rest = tl.zeros([BLOCK], ACC)
        tl.store(out_ptr + first, (a * alpha + rest).to(out_ptr.dtype.element_ty), mask=inside)
        tl.store(out_ptr + first + g, (b * alpha + rest).to(out_ptr.dtype.element_ty), mask=inside)
        tl.store(out_ptr + first + row, (c * alpha + rest).to(out_ptr.dtype.element_ty), mask=inside)
        tl.store(out_ptr + first + row + g, (d * alpha + rest).to(out_ptr.dtype.element_ty), mask=inside)
