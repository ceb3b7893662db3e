"""Options of `gankern train` that decide how fast it computes on a GPU, and how exactly in fp32."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .arguments import boolean

if TYPE_CHECKING:
    import torch

    from .training.state import TrainingState


def add_speed_options(train: argparse.ArgumentParser) -> None:
    """Adds them to the parser, in a group of their own."""
    group = train.add_argument_group("speed")
    add = group.add_argument
    add("--fp32", dest="precision", action="store_const", const="fp32", help="the same as --precision fp32")
    tf32 = "let fp32 products round their factors to 10 bits, on a GPU from Ampere on: faster [0]"
    add("--tf32", "--allow-tf32", type=boolean, nargs="?", const=True, default=False, metavar="0|1", help=tf32)
    bench = "do not let cuDNN measure which of its routines is the fastest"
    add("--nobench", type=boolean, nargs="?", const=True, default=False, metavar="0|1", help=bench)
    graphs = "auto replays each phase as a CUDA graph, where it can be captured [off]"
    add("--cuda-graphs", choices=("auto", "off"), default="off", help=graphs)
    compiled = "compile each phase's losses and gradients with torch.compile; minutes at the start [0]"
    add("--compile", type=boolean, nargs="?", const=True, default=False, metavar="0|1", help=compiled)


def set_backends(args: argparse.Namespace, device: torch.device) -> None:
    """Tells PyTorch's backends what the options say; on a CPU there is nothing to tell.

    Raises:
        ValueError: An option of GPUs was given for another device.
    """
    import torch

    if device.type != "cuda":
        for name in ("tf32", "nobench"):
            if getattr(args, name):
                raise ValueError(f"--{name} is for a GPU, got --device {device.type}")
        return
    torch.backends.cuda.matmul.allow_tf32 = args.tf32
    torch.backends.cudnn.allow_tf32 = args.tf32
    torch.backends.cudnn.benchmark = not (args.nobench or torch.are_deterministic_algorithms_enabled())


def set_graphs(args: argparse.Namespace, state: TrainingState) -> None:
    """Makes a run compile its phases, and replay them as CUDA graphs, if the options say so and there is a GPU."""
    if args.compile:
        from .training.compiling import CompiledGradients

        state.compiled = CompiledGradients()
    if args.cuda_graphs == "off":
        return
    if state.device.type != "cuda":
        print("CUDA graphs: off, they need a GPU")
        return
    from .training.capture import capture_phases

    capture_phases(state)
