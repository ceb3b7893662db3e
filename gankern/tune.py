"""Measures, class by class, whether Winograd's algorithm or torch's convolution is faster on this machine."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

import torch

from gankern import convolution
from gankern import convolution_table as table

MOST_GFLOP = 20.0  # of a class that is measured; larger ones go by the next smaller one of as many channels
SECONDS = 0.03  # per routine and class, at least
IMAGES = 4


def measure() -> dict[str, float]:
    """By class, the time of torch's routine over that of Winograd's algorithm, with the weights' transform."""
    speedups: dict[str, float] = {}
    dtypes = [torch.float32, *([] if torch.bfloat16 in convolution.LACKING else [torch.bfloat16])]
    rows = list(itertools.product(dtypes, table.WHAT, table.LAYOUTS, table.CHANNELS))
    for dtype, what, layout, channels in rows:
        last = 0.0
        for tiles in table.TILES:
            size = 4 * int((tiles / IMAGES) ** 0.5)
            if 18e-9 * IMAGES * size**2 * channels**2 <= MOST_GFLOP:
                last = _speedup(what, dtype, layout, channels, size)
            speedups[table.key(what, table.DTYPES[dtype], layout, channels, tiles)] = round(last, 3)
            done = f"{len(speedups)}/{len(rows) * len(table.TILES)} {what}, {channels} channels: {last:.2f}x"
            print(f"\r\033[K{done}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for dtype in (torch.bfloat16, torch.float16):  # where the processor lacks a type, torch's routine is float32's
        for name in [name for name in speedups if ", fp32," in name]:
            speedups.setdefault(name.replace("fp32", table.DTYPES[dtype]), speedups[name])
    return speedups


def _speedup(what: str, dtype: torch.dtype, layout: str, channels: int, size: int) -> float:
    """`size` is that of the smaller image."""
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    large = 2 * size + 1 if what.startswith(("strided", "transposed")) else size
    shapes = {name: (IMAGES, channels, s, s) for name, s in (("small", size), ("large", large))}
    images = {
        name: torch.randn(shape).to(dtype).contiguous(memory_format=memory_format) for name, shape in shapes.items()
    }
    w = torch.randn(channels, channels, 3, 3).div_(3 * channels**0.5).contiguous(memory_format=memory_format)
    ours, theirs = _routines(what, images["large"], images["small"], w)
    times: dict[bool, list[float]] = {True: [], False: []}
    start = time.perf_counter()
    while len(times[False]) < 4 or time.perf_counter() - start < 2 * SECONDS:
        for is_ours, routine in ((True, ours), (False, theirs)):
            w[0, 0, 0, 0] += 1e-3  # as after a step of the optimiser
            begin = time.perf_counter()
            routine()
            times[is_ours].append(time.perf_counter() - begin)
    return min(times[False][1:]) / min(times[True][1:])  # the first ones find no memory to use again


def _routines(
    what: str, large: torch.Tensor, small: torch.Tensor, w: torch.Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Winograd's and torch's way to do the same."""
    strided = what.startswith(("strided", "transposed"))
    stride, padding = ([2, 2], [0, 0]) if strided else ([1, 1], [1, 1])
    own = w.to(large.dtype)
    last = w.is_contiguous(memory_format=torch.channels_last)
    if what.endswith("gradient"):
        ours = (
            torch.ops.gankern.winograd_strided_weight_gradient
            if strided
            else (torch.ops.gankern.winograd_weight_gradient)
        )
        shape = tuple(w.shape)
        return (
            lambda: ours(large, small, *padding, None, None),
            lambda: convolution.torch_weight_gradient(large, small, shape, stride, padding, [1, 1], 1, last),
        )
    x, transposed = (small, True) if what == "transposed" else (large, False)
    run = convolution.winograd_strided if strided else convolution.winograd
    return (
        lambda: run(x, w, padding, transposed),
        lambda: convolution.torch_convolution(x, own, stride, padding, [1, 1], transposed, [0, 0], 1),
    )
