"""Which routine computes a convolution: gankern's Winograd kernels, or oneDNN's and cuDNN's behind PyTorch.

Below the derivatives: `gankern.ops.conv2d` and `styled_conv2d` have those.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch

from gankern import convolution_table as table
from gankern.dispatch import known_size

PLAIN = (None, None, None, None, None, "linear", 0.0, 1.0, None)  # a layer that is a convolution and nothing else

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
    if x.device.type == "cpu" and _covers(w.shape, stride, padding, dilation, groups):
        strided = list(stride) == [2, 2]
        what = ("transposed" if transposed else "strided") if strided else "convolution"
        small = _small(x.shape, strided, padding, transposed)
        layout = _layout(x, w)
        if strided and _is_built() and _pays(what, x.dtype, layout, w.shape, small):
            return winograd_strided(x, w, padding, transposed, output_padding)
        if not strided and max(output_padding) == 0 and _is_built() and _pays(what, x.dtype, layout, w.shape, small):
            return winograd(x, w, padding, transposed)
    return torch_convolution(x, w, stride, padding, dilation, transposed, output_padding, groups)


def torch_convolution(
    x: torch.Tensor,
    w: torch.Tensor,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
) -> torch.Tensor:
    """The same by torch; in float32 where the processor lacks instructions for a 16-bit type."""
    sizes = (stride, padding, dilation, transposed, output_padding, groups)
    if x.device.type == "cpu" and x.dtype in LACKING:
        return torch.ops.aten.convolution(x.float(), w.float(), None, *sizes).to(x.dtype)
    if _is_product(x, w.shape, stride, padding, groups) and x.is_contiguous():
        matrix = w[:, :, 0, 0].t() if transposed else w[:, :, 0, 0]  # [O, I]
        y = x.new_empty([x.shape[0], matrix.shape[0], *x.shape[2:]])
        torch.bmm(matrix.expand(x.shape[0], -1, -1), x.flatten(2), out=y.flatten(2))
        return y
    return torch.ops.aten.convolution(x, w, None, *sizes)


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
    if x.device.type == "cpu" and _covers(shape, stride, padding, dilation, groups) and _is_built():
        strided = list(stride) == [2, 2]
        what = "strided weight gradient" if strided else "weight gradient"
        if _pays(what, x.dtype, _layout(x, dy), shape, [dy.shape[0], *dy.shape[2:]]):
            ops = torch.ops.gankern
            gradient = ops.winograd_strided_weight_gradient if strided else ops.winograd_weight_gradient
            memory_format = torch.channels_last if channels_last else torch.contiguous_format
            return gradient(x, dy, *padding, None, None).to(x.dtype).contiguous(memory_format=memory_format)
    return torch_weight_gradient(x, dy, shape, stride, padding, dilation, groups, channels_last)


def torch_weight_gradient(
    x: torch.Tensor,
    dy: torch.Tensor,
    shape: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    groups: int,
    channels_last: bool,
) -> torch.Tensor:
    """The same by torch, in the type and memory format in which it is fastest."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    dtype = x.dtype
    if _is_product(x, shape, stride, padding, groups) and x.is_contiguous() and dy.is_contiguous():
        dw = x.new_empty(shape).contiguous(memory_format=memory_format)
        torch.sum(torch.bmm(dy.flatten(2), x.flatten(2).mT), 0, out=dw.view(shape[0], shape[1]))
        return dw
    if x.device.type == "cpu":
        if dtype in LACKING:
            x, dy = x.float(), dy.float()
        if x.dtype == torch.float32:
            # In channels_last oneDNN takes 1.3 to 4.7 times as long as in NCHW (AVX2); the copies take less than that.
            x, dy = x.contiguous(), dy.contiguous()
    w = x.new_empty(shape).contiguous(memory_format=memory_format)  # only its shape and format are read
    sizes = (stride, padding, dilation, False, [0, 0], groups)
    dw = torch.ops.aten.convolution_backward(dy, x, w, None, *sizes, [False, True, False])[1]
    return dw.to(dtype).contiguous(memory_format=memory_format)


def _is_product(x: torch.Tensor, shape: Sizes, stride: Sizes, padding: Sizes, groups: int) -> bool:
    """Whether a convolution is 1x1 and of bfloat16 on a CPU, where torch multiplies 2 to 4 times as fast."""
    if x.device.type != "cpu" or x.dtype != torch.bfloat16 or x.dtype in LACKING or 0 in x.shape:
        return False
    return tuple(shape[2:]) == (1, 1) and list(stride) == [1, 1] and max(padding) == 0 and groups == 1


def folds_filter(x: torch.Tensor, w: torch.Tensor, taps: int) -> bool:
    """Whether a convolution with resampling takes the FIR filter into its kernel, or filters in a pass of its own.

    With two taps (nearest neighbour, mean of 2x2 pixels) a 3x3 kernel becomes 4x4: no pass over the larger images, for
    16/9 of the multiplications and some passes over the weights. By arithmetic, not measured: a CPU is short of
    multiplications, a GPU of memory bandwidth.
    """
    return taps == 2 and x.device.type == "cuda"


def is_winograd(x: torch.Tensor, w: torch.Tensor, padding: Sizes) -> bool:
    """Whether Winograd's algorithm, where it is built, is the fastest for conv2d(x, w) at stride 1."""
    return _covers(w.shape, [1, 1], padding, [1, 1], 1) and _pays(
        "convolution", x.dtype, _layout(x, w), w.shape, _small(x.shape, False, padding, False)
    )


def transpose(dy: torch.Tensor, w: torch.Tensor, padding: Sizes) -> torch.Tensor:
    """The input gradient of a 3x3 convolution at stride 1; w is rounded to the dtype of dy only where it must be."""
    if _pays("convolution", dy.dtype, _layout(dy, w), w.shape, _small(dy.shape, False, padding, True)):
        return winograd(dy, w, padding, True)
    return torch_convolution(dy, w.to(dy.dtype), [1, 1], padding, [1, 1], True, [0, 0], 1)


def winograd(x: torch.Tensor, w: torch.Tensor, padding: Sizes, transposed: bool, layer: tuple = PLAIN) -> torch.Tensor:
    """A 3x3 convolution at stride 1 in Winograd's algorithm, with what `layer` puts before and after it.

    A transposed convolution is one with the weights turned by 180 degrees, I and O exchanged, padded by 2 - p.

    Args:
        x: Images [N, I, H, W].
        w: Weights [O, I, 3, 3], or [I, O, 3, 3] if transposed, of any floating dtype.
        padding: [y, x].
        layer: scale, out_scale, noise, strength, b, act, alpha, gain and clamp of `winograd_conv2d`.
    """
    py, px = (2 - p for p in padding) if transposed else padding
    return torch.ops.gankern.winograd_conv2d(_dense(x, w), w, py, px, transposed, *layer)


def winograd_strided(
    x: torch.Tensor, w: torch.Tensor, padding: Sizes, transposed: bool, output_padding: Sizes = (0, 0)
) -> torch.Tensor:
    """A 3x3 convolution at stride 2 in Winograd's algorithm, or its transpose; arguments as in `winograd`."""
    return torch.ops.gankern.winograd_strided_conv2d(_dense(x, w), w, *padding, transposed, *output_padding, None, None)


def _covers(shape: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, groups: int) -> bool:
    """Whether Winograd's algorithm covers a convolution, or a transposed one, with weights of this shape."""
    if tuple(shape[2:]) != (3, 3) or groups != 1 or max(padding) > 2 or list(dilation) != [1, 1]:
        return False
    return list(stride) in ([1, 1], [2, 2])


def _small(shape: Sizes, strided: bool, padding: Sizes, transposed: bool) -> list[int]:
    """[N, H, W] of the result, or at stride 2 of the smaller one of image and result."""
    if not strided:
        grow = [2 - 2 * p if transposed else 2 * p - 2 for p in padding]
    elif transposed:
        grow = [0, 0]
    else:
        return [shape[0], *((size + 2 * p - 1) // 2 for size, p in zip(shape[2:], padding, strict=True))]
    return [shape[0], *(size + g for size, g in zip(shape[2:], grow, strict=True))]


def _tiles(small: Sizes) -> int:
    """Into how many tiles of 4x4 pixels it is cut."""
    n, h, w = small
    return n * ((h + 3) // 4) * ((w + 3) // 4)


def _pays(what: str, dtype: torch.dtype, layout: str, shape: Sizes, small: Sizes) -> bool:
    """Whether Winograd's algorithm is the faster one, by the table and by how much of the tiles lies in the image.

    Never where deterministic algorithms are insisted on: it is one, but direct convolutions are more accurate. What is
    compiled does not ask.
    """
    if not torch.compiler.is_compiling() and _insists_on_determinism():
        return False
    n, h, w = (known_size(size) for size in small)
    if min(n, h, w) < 1:
        return False
    tiles = _tiles((n, h, w))
    own = torch.float32 if dtype in LACKING else dtype
    speedup = table.speedup(what, own, layout, min(shape[0], shape[1]), tiles)
    return speedup * n * h * w > 16 * tiles


def _insists_on_determinism() -> bool:
    return torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


@cache
def _is_built() -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key("gankern::winograd_conv2d", "CPU")


def _without_instructions() -> frozenset[torch.dtype]:
    """16-bit types for which this processor has no instructions: oneDNN then takes many times float32's time."""
    is_there = torch.backends.mkldnn.is_available()
    has_bf16 = is_there and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    has_fp16 = is_there and torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return frozenset(t for t, has in ((torch.bfloat16, has_bf16), (torch.float16, has_fp16)) if not has)


LACKING = _without_instructions()  # at import: torch.compile traces a look-up, but not the question


def _dense(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x in channels_last, if it or w is, else in NCHW."""
    is_last = _layout(x, w) == "channels_last"
    return x.contiguous(memory_format=torch.channels_last if is_last else torch.contiguous_format)


def _layout(x: torch.Tensor, y: torch.Tensor) -> str:
    """In which convolutions with both compute; the name that the table has for it."""
    return "channels_last" if torch.channels_last in (_format(x), _format(y)) else "NCHW"


def _format(t: torch.Tensor) -> torch.memory_format:
    is_last = not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
