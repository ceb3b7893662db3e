"""`python -m bench.models.augment`: AugmentPipe and DiffAugment against plain PyTorch, and how many kernels they call.

Plain PyTorch is the published way to warp: the margin that a batch needs is read from the device, images are padded by
it, upsampled, sampled by torch's own grid_sample, downsampled; frequency bands by torch's own grouped convolution.
What it shares with gankern is as fast as plain PyTorch gets: one call for all random numbers, matrices in closed form,
colours as one matrix product. `double backward` is what R1 does: through the gradient of the images once more.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from bench.harness import MODES, make_timer, measure
from bench.models.iteration import RESULTS, machine
from bench.run import environment
from gankern.nn import AUGPIPES, AugmentPipe, DiffAugment, augment_pipe, augment_transforms
from gankern.reference import upfirdn2d as reference

PIPES = ("bg", "bgc", "bgcfnc")
SHRINKING = -0.25  # at least, of the logarithms of scale and stretch, so that plain PyTorch's reflection suffices


def plain_warp(x: torch.Tensor, inverse: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """The published way; arguments as in `augment_transforms.warp`."""
    (n, c), (height, width) = x.shape[:2], x.shape[2:]
    half = [(size + 5) / 2 for size in (width, height)]
    corners = torch.tensor([[a * half[0], b * half[1], 1] for a in (-1, 1) for b in (-1, 1)]).to(x)  # [4, 3]
    reach = (inverse @ corners.T).transpose(0, 1).flatten(1)  # [2, 4 N], in pixels from the centre
    low, high = reach.amin(1).tolist(), reach.amax(1).tolist()
    margins = []
    for lowest, highest, size in zip(low, high, (width, height), strict=True):
        centre = (size - 1) / 2
        margins += [min(max(int(m) + 5, 0), size - 1) for m in (-lowest - centre, highest - centre)]
    left, right, top, bottom = margins
    x = F.pad(x, margins, mode="reflect")
    x = reference.upfirdn2d(x, f, (2, 2), (1, 1), (6, 5, 6, 5), False, 4)  # sample k is at k / 2
    rows = []
    for axis, (before, after, size) in enumerate(((left, right, width), (top, bottom, height))):
        padded = size + before + after
        row = inverse[:, axis]  # [N, 3]
        offset = row[:, 2] + (row[:, 0] + row[:, 1]) / 4 + (size - 1) / 2 + before + 0.25  # half of half a pixel
        scaled = torch.stack([row[:, 0] * half[0], row[:, 1] * half[1], offset], 1) * 2 / padded
        rows.append(scaled - scaled.new_tensor([0, 0, 1]))
    grid = F.affine_grid(torch.stack(rows, 1), [n, c, 2 * height + 10, 2 * width + 10], align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return reference.upfirdn2d(x, f, (1, 1), (2, 2), (0, 0, 0, 0), True, 1)


def plain_filter_bands(x: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """As `augment_transforms.filter_bands`, which is this on gankern's convolution."""
    with patch.object(augment_transforms, "conv2d", F.conv2d):
        return augment_transforms.filter_bands(x, taps)


class PlainPipe(AugmentPipe):
    """AugmentPipe on plain PyTorch."""

    def transform(self, x: torch.Tensor, drawn: dict[str, torch.Tensor]) -> torch.Tensor:
        with (
            patch.object(augment_pipe, "warp", plain_warp),
            patch.object(augment_pipe, "filter_bands", plain_filter_bands),
        ):
            return super().transform(x, drawn)


class Calls(TorchDispatchMode):
    """Counts the calls that are not mere views."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = op(*args, **kwargs or {})
        self.count += not op.is_view
        return result


def calls_of(function: Callable[[], object]) -> int:
    with Calls() as calls, torch.no_grad():
        function()
    return calls.count


def work(augment: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, mode: str) -> object:
    if mode == MODES[0]:
        with torch.no_grad():
            return augment(x)
    y = augment(x)
    (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=mode == MODES[2])
    return torch.autograd.grad(g.square().sum(), x) if mode == MODES[2] else g


def check_parity(ours: AugmentPipe, plain: PlainPipe, x: torch.Tensor) -> None:
    """Raises RuntimeError if the two compute different images from the same random numbers."""
    drawn = ours.draw(x)
    scale, aniso = drawn["scale"].clamp(min=SHRINKING), drawn["aniso"].clamp(SHRINKING, -SHRINKING)
    drawn |= {"scale": scale, "aniso": aniso, "noise": torch.zeros_like(drawn["noise"])}
    with torch.no_grad():
        a, b = ours.transform(x, drawn), plain.transform(x, drawn)
    error = float((a - b).abs().max() / b.abs().max())
    if not error < 1e-3:
        raise RuntimeError(f"bench: AugmentPipe and plain PyTorch differ by {error:.1e} of the largest value")


def measure_size(resolution: int, batch: int, p: float, budget: float, device: str) -> list[dict[str, Any]]:
    """Every pipe and mode at one size."""
    torch.manual_seed(0)
    x = torch.randn(batch, 3, resolution, resolution, device=device).clamp(-1, 1).requires_grad_()
    timer, figures = make_timer(device), []
    for name in (*PIPES, "DiffAugment"):
        if name == "DiffAugment":
            variants: dict[str, torch.nn.Module] = {"gankern": DiffAugment()}
        else:
            variants = {"plain": PlainPipe(**AUGPIPES[name]), "gankern": AugmentPipe(**AUGPIPES[name])}
            for pipe in variants.values():
                pipe.to(device).p.fill_(p)
            check_parity(variants["gankern"], variants["plain"], x)
        for mode in MODES:
            calls = {
                who: lambda augment=augment, mode=mode: work(augment, x, mode) for who, augment in variants.items()
            }
            for who, quartiles in measure(calls, timer, budget).items():
                figures.append(
                    {
                        "pipe": name,
                        "resolution": resolution,
                        "batch": batch,
                        "mode": mode,
                        "who": who,
                        "ms": [1000 * seconds for seconds in quartiles],
                        "calls": calls_of(lambda augment=variants[who]: augment(x)),
                    }
                )
    return figures


def table(figures: Sequence[dict[str, Any]]) -> str:
    """Milliseconds of each variant, and the calls of a forward pass that are not views."""
    lines = ["| pipe | images | mode | plain PyTorch | gankern | x | calls, plain / gankern |", "|" + "---|" * 7]
    found = {(f["pipe"], f["resolution"], f["batch"], f["mode"], f["who"]): f for f in figures}
    for pipe, resolution, batch, mode, who in found:
        if who != "gankern":
            continue
        ours, plain = (found.get((pipe, resolution, batch, mode, name)) for name in ("gankern", "plain"))
        ms, calls, faster = f"{ours['ms'][0]:.2f} ms", str(ours["calls"]), ""
        of_plain = "" if plain is None else f"{plain['ms'][0]:.2f} ms"
        if plain is not None:
            faster, calls = f"{plain['ms'][0] / ours['ms'][0]:.2f}x", f"{plain['calls']} / {calls}"
        images = f"{batch}x3x{resolution}x{resolution}"
        lines.append(f"| {pipe} | {images} | {mode} | {of_plain} | {ms} | {faster} | {calls} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.augment", description=__doc__)
    parser.add_argument("--resolution", type=int, action="append", help="may be repeated [64 and 256]")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--p", type=float, default=0.5, help="probability of each transform [0.5]")
    parser.add_argument("--budget", type=float, default=1.0, help="seconds for each figure [1]")
    parser.add_argument("--threads", type=int, help="of the CPU [PyTorch's choice]")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    parser.add_argument("--table", metavar="FILE", help="print the table of such a file, measure nothing")
    parser.set_defaults(quick=False, flush_l2=False)
    args = parser.parse_args(argv)
    if args.table:
        report = json.loads((RESULTS / args.table).read_text())
        print(f"{machine(report)}\n\n{table(report['figures'])}")
        return 0
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == "cpu":
        from gankern._host import keep_freed_memory

        keep_freed_memory()
    report = environment(args) | {"p": args.p, "figures": []}
    for resolution in args.resolution or (64, 256):
        report["figures"] += measure_size(resolution, args.batch, args.p, args.budget, args.device)
    print(f"{machine(report)}\n\n{table(report['figures'])}")
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
        print(f"\nwritten: {RESULTS / args.json}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
