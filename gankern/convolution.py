"""Which routine computes a convolution: gankern's Winograd kernels, or oneDNN's and cuDNN's behind PyTorch.

Below the derivatives: `gankern.ops.conv2d` has those.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

# Measured on one thread of an AVX2 processor: below these, transforming weights and tiles costs more than the
# multiplications that are saved.
LEAST_CHANNELS = {"convolution": 32, "weight_gradient": 16}
LEAST_TILES = {"convolution": 12, "weight_gradient": 8}

Sizes = Sequence[int]


def convolution(
    x: torch.Tensor,
    w: torch.Tensor,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> torch.Tensor:
    """aten::convolution without bias."""
    if x.device.type == "cpu":
        if (
            _pays("convolution", x, w.shape, padding, transposed)
            and _is_plain(stride, padding, dilation, groups)
            and list(output_padding) == [0, 0]
        ):
            return _winograd(x, w, padding, transposed)
        if x.dtype != torch.float32 and lacks(x.dtype):
            sizes = (stride, padding, dilation, transposed, output_padding, groups)
            return torch.ops.aten.convolution(x.float(), w.float(), None, *sizes).to(x.dtype)
    return torch.ops.aten.convolution(x, w, None, stride, padding, dilation, transposed, output_padding, groups)


def weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
    channels_last: bool,
) -> torch.Tensor:
    """The derivative of sum(dy * convolution(x, w)) with respect to w, of a shape and in a memory format."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    dtype = x.dtype
    if x.device.type == "cpu":
        if _pays("weight_gradient", x, shape, padding, False) and _is_plain(stride, padding, dilation, groups):
            dw = torch.ops.gankern.winograd_weight_gradient(x, dy, *padding, None, None)
            return dw.to(dtype).contiguous(memory_format=memory_format)
        if dtype != torch.float32 and lacks(dtype):
            x, dy = x.float(), dy.float()
        if x.dtype == torch.float32:
            # In channels_last oneDNN takes 1.3 to 4.7 times as long as in NCHW (AVX2); the copies take less than that.
            x, dy = x.contiguous(), dy.contiguous()
    w = x.new_empty(shape).contiguous(memory_format=memory_format)  # only its shape and format are read
    sizes = (stride, padding, dilation, False, [0, 0], groups)
    dw = torch.ops.aten.convolution_backward(dy, x, w, None, *sizes, [False, True, False])[1]
    return dw.to(dtype).contiguous(memory_format=memory_format)


def folds_filter(x: torch.Tensor, w: torch.Tensor, taps: int) -> bool:
    """Whether a convolution with resampling takes the FIR filter into its kernel, or filters in a pass of its own.

    With two taps (nearest neighbour, mean of 2x2 pixels) a 3x3 kernel becomes 4x4: no pass over the larger images, for
    16/9 of the multiplications and some passes over the weights. By arithmetic, not measured: a CPU is short of
    multiplications, a GPU of memory bandwidth.
    """
    return taps == 2 and x.device.type == "cuda"


def _winograd(x: torch.Tensor, w: torch.Tensor, padding: Sizes, transposed: bool) -> torch.Tensor:
    """A transposed convolution is one with the weights turned by 180 degrees, I and O exchanged, padded by 2 - p."""
    is_last = _format(x) == torch.channels_last or _format(w) == torch.channels_last
    x = x.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    u = torch.ops.gankern.winograd_weight(w, transposed)
    py, px = (2 - p for p in padding) if transposed else padding
    tail = (None, None, None, None, None, "linear", 0.0, 1.0, None)
    return torch.ops.gankern.winograd_conv2d(x, u, w.shape[1 if transposed else 0], py, px, *tail)


def _is_plain(stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> bool:
    """Whether Winograd's algorithm covers a convolution with a 3x3 kernel."""
    return list(stride) == [1, 1] and list(dilation) == [1, 1] and groups == 1 and max(padding) <= 2


def _pays(what: str, x: torch.Tensor, shape: Sizes, padding: Sizes, transposed: bool) -> bool:
    """Whether Winograd's algorithm is the faster one for a 3x3 kernel; tiles are 4x4 pixels of the result."""
    if min(shape[0], shape[1]) < LEAST_CHANNELS[what] or tuple(shape[2:]) != (3, 3):
        return False
    if x.dtype == torch.float64 or not _is_built():
        return False
    grow = [2 - 2 * p if transposed else 2 * p - 2 for p in padding]
    n, h, w = x.shape[0], x.shape[2] + grow[0], x.shape[3] + grow[1]
    tiles = n * ((h + 3) // 4) * ((w + 3) // 4)
    return (
        min(h, w) >= 4
        and tiles >= LEAST_TILES[what]
        and 5 * n * h * w > 32 * tiles  # few of the tiles' pixels are outside
    )


@cache
def _is_built() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("gankern::winograd_conv2d", "CPU")


def lacks(dtype: torch.dtype) -> bool:
    """Whether this processor has no instructions for a 16-bit type: oneDNN then takes many times float32's time."""
    return dtype in _LACKING


def _without_instructions() -> frozenset[torch.dtype]:
    is_there = torch.backends.mkldnn.is_available()
    has_bf16 = is_there and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    has_fp16 = is_there and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return frozenset(t for t, has in ((torch.bfloat16, has_bf16), (torch.float16, has_fp16)) if not has)


_LACKING = _without_instructions()  # at import: torch.compile traces a look-up, but not the question


def _format(t: torch.Tensor) -> torch.memory_format:
    is_last = not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
