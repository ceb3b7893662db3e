"""Which routine computes a convolution: gankern's Winograd kernels, or oneDNN's and cuDNN's behind PyTorch.

Below the derivatives: `gankern.ops.conv2d` has those.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from functools import cache

import torch

# Measured on one thread of an AVX2 processor: below these, transforming weights and tiles costs more than the
# multiplications that are saved.
LEAST_CHANNELS = {"convolution": 32, "weight_gradient": 16}
LEAST_TILES = {"convolution": 12, "weight_gradient": 8}

# Transformed weights are kept for as many bytes, where each is used in as few tiles as this at most.
MOST_KEPT = int(os.environ.get("GANKERN_KEPT_WEIGHTS_MB", "1024")) << 20
MOST_USES = 512

_kept: dict[tuple, torch.Tensor] = {}
_keeping = threading.Lock()

Sizes = Sequence[int]
PLAIN = (None, None, None, None, None, "linear", 0.0, 1.0, None)  # a layer that is a convolution and nothing else


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
            _is_built()
            and _pays("convolution", x, w.shape, padding, transposed)
            and _is_plain(stride, padding, dilation, groups)
            and list(output_padding) == [0, 0]
        ):
            return winograd(x, w, padding, transposed)
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
        if (
            _is_built()
            and _pays("weight_gradient", x, shape, padding, False)
            and _is_plain(stride, padding, dilation, groups)
        ):
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


def is_winograd(x: torch.Tensor, shape: Sizes, padding: Sizes) -> bool:
    """Whether Winograd's algorithm, where it is built, is the fastest for conv2d(x, w) at stride 1, w of this shape."""
    return max(padding) <= 2 and _pays("convolution", x, shape, padding, False)


def transpose(dy: torch.Tensor, w: torch.Tensor, padding: Sizes) -> torch.Tensor:
    """The input gradient of a 3x3 convolution at stride 1; w is rounded to the dtype of dy only where it must be."""
    if _pays("convolution", dy, w.shape, padding, True):
        return winograd(dy, w, padding, True)
    return convolution(dy, w.to(dy.dtype), [1, 1], padding, [1, 1], True, [0, 0], 1)


def winograd(x: torch.Tensor, w: torch.Tensor, padding: Sizes, transposed: bool, layer: tuple = PLAIN) -> torch.Tensor:
    """A 3x3 convolution at stride 1 in Winograd's algorithm, with what `layer` puts before and after it.

    A transposed convolution is one with the weights turned by 180 degrees, I and O exchanged, padded by 2 - p.

    Args:
        x: Images [N, I, H, W].
        w: Weights [O, I, 3, 3], or [I, O, 3, 3] if transposed, of any floating dtype.
        padding: [y, x].
        layer: scale, out_scale, noise, strength, b, act, alpha, gain and clamp of `winograd_conv2d`.
    """
    is_last = _format(x) == torch.channels_last or _format(w) == torch.channels_last
    x = x.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)
    py, px = (2 - p for p in padding) if transposed else padding
    u = transformed(w, transposed, tiles(x, [2 * py - 2, 2 * px - 2]))
    return torch.ops.gankern.winograd_conv2d(x, u, w.shape[1 if transposed else 0], py, px, *layer)


def transformed(w: torch.Tensor, transposed: bool, uses: int) -> torch.Tensor:
    """What `winograd_weight` makes of weights, kept for the next time that the same numbers come.

    Kept by content: whatever changes a weight, an optimiser, `.data`, NumPy or another process, it is transformed anew.
    To find out takes a tenth of a transform.

    Args:
        w, transposed: Of `winograd_weight`.
        uses: Tiles that are multiplied with each weight; with many of them the transform costs next to nothing.
    """
    if uses > MOST_USES:
        return torch.ops.gankern.winograd_weight(w, transposed)
    from gankern._host import fingerprint

    w = w.contiguous()
    key = (fingerprint(w.data_ptr(), w.nbytes), w.shape, w.dtype, transposed)
    u = _kept.get(key)
    if u is None:
        u = torch.ops.gankern.winograd_weight(w, transposed)
        with _keeping:
            while _kept and sum(t.nbytes for t in _kept.values()) + u.nbytes > MOST_KEPT:
                # Any, but not the oldest: training goes round, and what is oldest comes next.
                del _kept[random.choice(list(_kept))]
            _kept[key] = u
    return u


def tiles(x: torch.Tensor, grow: Sizes) -> int:
    """Into how many tiles of 4x4 pixels Winograd's algorithm cuts a result that is so much larger than x."""
    return x.shape[0] * ((x.shape[2] + grow[0] + 3) // 4) * ((x.shape[3] + grow[1] + 3) // 4)


def _is_plain(stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> bool:
    """Whether Winograd's algorithm covers a convolution with a 3x3 kernel."""
    return list(stride) == [1, 1] and list(dilation) == [1, 1] and groups == 1 and max(padding) <= 2


def _pays(what: str, x: torch.Tensor, shape: Sizes, padding: Sizes, transposed: bool) -> bool:
    """Whether Winograd's algorithm is the faster one for a 3x3 kernel; tiles are 4x4 pixels of the result."""
    if min(shape[0], shape[1]) < LEAST_CHANNELS[what] or tuple(shape[2:]) != (3, 3):
        return False
    if x.dtype == torch.float64:
        return False
    grow = [2 - 2 * p if transposed else 2 * p - 2 for p in padding]
    n, h, w = x.shape[0], x.shape[2] + grow[0], x.shape[3] + grow[1]
    count = tiles(x, grow)
    return (
        min(h, w) >= 4
        and count >= LEAST_TILES[what]
        and 5 * n * h * w > 32 * count  # few of the tiles' pixels are outside
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
