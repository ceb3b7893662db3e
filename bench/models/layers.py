"""`python -m bench.models.layers`: every 3x3 layer of StyleGAN2 against PyTorch's convolution, in float32 on the CPU.

Plain PyTorch is timed in NCHW and in channels_last; the faster one of each measurement counts. Weights change before
every call, as they do in training, so that their transforms are never free. `layer` is the whole layer of the
generator (style, demodulation, noise, bias, activation) with gankern against the bare convolution with gankern.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

import gankern
from bench.harness import LAYOUTS
from bench.models.iteration import RESULTS, machine
from bench.run import environment

CHANNEL_BASE, CHANNEL_MAX = 16384, 512  # of paper256
MODES = ("forward", "forward+backward")


@dataclass(frozen=True)
class Layer:
    """One 3x3 convolution: at stride 1 ('same'), transposed at stride 2 ('up'), or at stride 2 ('down')."""

    kind: str
    i: int
    o: int
    size: int  # of the input

    def __str__(self) -> str:
        return f"{self.kind} {self.i}->{self.o} @{self.size}"

    def gflop(self, batch: int) -> float:
        """Of a direct convolution, forward; the same for each of its two gradients."""
        pixels = (self.size // 2 if self.kind == "down" else self.size) ** 2
        return 2 * 9 * batch * pixels * self.i * self.o / 1e9

    def weight_shape(self) -> tuple[int, ...]:
        return (self.i, self.o, 3, 3) if self.kind == "up" else (self.o, self.i, 3, 3)

    def convolve(self, module: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        """By `torch.nn.functional` or by `gankern`."""
        if self.kind == "up":
            return module.conv_transpose2d(x, w, stride=2)
        return module.conv2d(x, w, **({"stride": 2} if self.kind == "down" else {"padding": 1}))


def layers(resolution: int) -> list[Layer]:
    """The layers of both networks at one resolution, but for those of three channels."""
    here, below = (min(CHANNEL_BASE // r, CHANNEL_MAX) for r in (resolution, resolution // 2))
    return [
        Layer("same", here, here, resolution),
        Layer("up", below, here, resolution // 2),
        Layer("down", here, below, resolution + 1),
    ]


class Problem:
    """The tensors of one layer in one memory format, and the calls to be timed."""

    def __init__(self, layer: Layer, batch: int, layout: str, module: Any) -> None:
        random = torch.Generator().manual_seed(0)
        size = (batch, layer.i, layer.size, layer.size)
        self.layer, self.module = layer, module
        self.x = torch.randn(size, generator=random).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
        self.w = torch.randn(layer.weight_shape(), generator=random).div_((9 * layer.i) ** 0.5).requires_grad_()
        self.dy = torch.randn_like(layer.convolve(module, self.x, self.w))
        self.styles, self.noise = torch.ones([batch, layer.i]), torch.randn(size[2:], generator=random)
        self.bias, self.strength = torch.zeros([layer.o]), torch.ones([])

    def change_weights(self) -> None:
        with torch.no_grad():
            self.w.view(-1)[0] += 1e-3

    def forward(self) -> None:
        with torch.no_grad():
            self.layer.convolve(self.module, self.x, self.w)

    def forward_backward(self) -> None:
        y = self.layer.convolve(self.module, self.x, self.w)
        torch.autograd.grad(y, [self.x, self.w], self.dy)

    def whole_layer(self) -> None:
        tail: dict[str, Any] = {"noise_strength": self.strength, "bias": self.bias, "act": "lrelu", "clamp": 256.0}
        with torch.no_grad():
            gankern.modulated_conv2d(self.x, self.w, self.styles, self.noise, padding=1, **tail)


def fastest(calls: dict[str, tuple[Callable[[], None], Callable[[], None]]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, the least of several interleaved rounds; each is prepared before it is timed."""
    best: dict[str, float] = {}
    for turn in range(rounds + 1):  # the first warms up
        for name, (prepare, call) in calls.items():
            prepare()
            start = time.perf_counter()
            call()
            taken = 1000 * (time.perf_counter() - start)
            if turn:
                best[name] = min(best.get(name, taken), taken)
    return best


def measure(layer: Layer, batch: int, rounds: int) -> dict[str, Any]:
    """The layer's milliseconds by mode, and GFLOP/s counted as a direct convolution's."""
    problems = {
        (who, layout): Problem(layer, batch, layout, module)
        for who, module in (("eager", F), ("gankern", gankern))
        for layout in LAYOUTS
    }
    calls = {}
    for (who, layout), problem in problems.items():
        calls[f"{who} {layout} forward"] = (problem.change_weights, problem.forward)
        calls[f"{who} {layout} forward+backward"] = (problem.change_weights, problem.forward_backward)
        if who == "gankern" and layer.kind == "same":
            calls[f"gankern {layout} layer"] = (problem.change_weights, problem.whole_layer)
    ms = fastest(calls, rounds)
    figure = {"layer": str(layer), "batch": batch, "ms": ms}
    for mode, passes in zip(MODES, (1, 3), strict=True):
        eager, ours = (min(ms[f"{who} {layout} {mode}"] for layout in LAYOUTS) for who in ("eager", "gankern"))
        figure[mode] = {"speedup": eager / ours, "gflops": 1000 * passes * layer.gflop(batch) / ours}
    if layer.kind == "same":
        figure["layer_over_convolution"] = {
            layout: ms[f"gankern {layout} layer"] / ms[f"gankern {layout} forward"] for layout in LAYOUTS
        }
    return figure


def matmul_gflops() -> float:
    """What this machine's float32 matrix products reach: the physical limit, as measured."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    best = fastest({"mm": (lambda: None, lambda: torch.mm(a, b))}, 5)["mm"]  # type: ignore[dict-item, return-value]
    return 2 * 2048**3 / best / 1e6


def table(report: dict[str, Any]) -> str:
    """A row per layer: speed over plain PyTorch, GFLOP/s, and what the rest of the layer costs."""
    lines = ["| layer | batch | forward | GFLOP/s | forward + backward | GFLOP/s | whole layer / convolution |"]
    lines.append("|" + "---|" * 7)
    for f in report["figures"]:
        modes = " | ".join(f"{f[mode]['speedup']:.2f}x | {f[mode]['gflops']:.0f}" for mode in MODES)
        whole = [f"{value:.2f} {layout}" for layout, value in f.get("layer_over_convolution", {}).items()]
        lines.append(f"| {f['layer']} | {f['batch']} | {modes} | {', '.join(whole)} |")
    about = f"{machine(report)}. Matrix product of 2048x2048 here: {report['matmul_gflops']:.0f} GFLOP/s."
    return "\n".join([*lines, "", about])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.layers", description=__doc__)
    parser.add_argument("--resolution", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256], metavar="N")
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts, after one to warm up")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default torch's choice")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: print the table of bench/results/FILE")
    args = parser.parse_args(argv)
    if args.table:
        print(table(json.loads((RESULTS / args.table).read_text())))
        return 0
    from gankern._host import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    args.device, args.quick, args.flush_l2 = "cpu", False, False
    report: dict[str, Any] = {**environment(args), "matmul_gflops": matmul_gflops(), "figures": []}
    for batch in args.batch:
        for layer in [layer for resolution in args.resolution for layer in layers(resolution)]:
            print(f"\r\033[K{layer}, batch {batch}", end="", file=sys.stderr, flush=True)
            report["figures"].append(measure(layer, batch, args.rounds))
    print(file=sys.stderr)
    print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
