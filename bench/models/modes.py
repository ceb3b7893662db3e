"""`python -m bench.models.modes`: what --compile and --cuda-graphs gain, phase by phase, for any configuration.

A phase is a step as training takes it: losses, gradients, their clean-up, the optimiser. All modes start from the same
networks and see the same inputs; their first losses are compared before anything is timed. Modes take turns, round by
round. A phase that a mode cannot compile or capture says so and counts as what it is: uncompiled or uncaptured.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from bench.models.iteration import RESULTS, machine
from bench.run import environment
from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.training.capture import WARMUP, capture_phases
from gankern.models.training.compiling import CompiledGradients
from gankern.models.training.objectives import Batch
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import Phase, make_phases, run_phase
from gankern.models.training.state import TrainingState, new_state

MODES = {"plain": (False, False), "compile": (True, False), "graphs": (False, True), "both": (True, True)}
SAME = 0.02  # relative difference of the first losses that rounding may make


class Run:
    """A configuration's training in one mode."""

    def __init__(self, cfg: str, resolution: int, batch: int, precision: str, mode: str, device: str) -> None:
        model, training = resolve(cfg, resolution, 3, 0, precision=precision)
        growth = training.growth and replace(training.growth, first_resolution=resolution)
        self.options: TrainingOptions = replace(training, batch=batch, batch_gpu=None, growth=growth)
        torch.manual_seed(0)
        networks = FAMILIES[find_preset(cfg)[0]].build(model)
        self.state: TrainingState = new_state(*networks, self.options, torch.device(device))
        compiled, captured = MODES[mode]
        if compiled:
            self.state.compiled = CompiledGradients()
        if captured:
            capture_phases(self.state)
        self.phases = make_phases(self.state, self.options)
        img = torch.rand([batch, 3, resolution, resolution], device=device) * 2 - 1
        c = torch.zeros([batch, 0], device=device)
        self.batch = Batch(img, c, torch.randn([batch, self.state.G.z_dim], device=device), c)

    def milliseconds(self, phase: Phase) -> float:
        """Of one step."""
        _wait(self.batch.z)
        start = time.perf_counter()
        run_phase(phase, self.state, self.options, self.batch)
        _wait(self.batch.z)
        return 1000 * (time.perf_counter() - start)

    def warm_up(self) -> float:
        """Steps until everything is compiled and captured; gives D's loss in the first."""
        for phase in self.phases * (WARMUP + 2):
            torch.manual_seed(1)
            run_phase(phase, self.state, self.options, self.batch)
        losses = self.state.stats.read()["Dmain", "Loss/D/loss"]
        return losses[0]


def _wait(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def measure(runs: dict[str, Run], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each phase in each mode: median, lower and upper quartile."""
    first = {mode: run.warm_up() for mode, run in runs.items()}
    for mode, loss in first.items():
        if abs(loss - first["plain"]) > SAME * abs(first["plain"]):
            raise RuntimeError(f"bench: D's first loss is {first['plain']:.4g}, with {mode} {loss:.4g}")
    found: dict[str, dict[str, list[float]]] = {}
    for k, phase in enumerate(runs["plain"].phases):
        times = [{mode: run.milliseconds(run.phases[k]) for mode, run in runs.items()} for _ in range(rounds)]
        found[phase.name] = {
            mode: [q[1], q[0], q[2]]
            for mode in runs
            if (q := statistics.quantiles([time[mode] for time in times], n=4, method="inclusive"))
        }
    return found


def table(report: dict[str, Any]) -> str:
    modes = list(next(iter(report["ms_phase"].values())))
    lines = [f"| phase | plain, ms | {' | '.join(modes[1:])} |", "|---" * (len(modes) + 1) + "|"]
    for phase, ms in report["ms_phase"].items():
        gains = [f"{ms['plain'][0] / ms[mode][0]:.2f}x" for mode in modes[1:]]
        lines.append(f"| {' | '.join([phase, format(ms['plain'][0], '.2f'), *gains])} |")
    run = f"{report['cfg']} at {report['resolution']}, batch {report['batch']}, {report['precision']}"
    return "\n".join([*lines, "", f"{run}. {machine(report)}."])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.models.modes", description=__doc__)
    parser.add_argument("--cfg", default="auto", help="a configuration of gankern train")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "fp16"))
    parser.add_argument("--modes", nargs="+", choices=list(MODES)[1:], help="default: all on a GPU, compile on a CPU")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", metavar="FILE", help="write every figure to bench/results/FILE")
    args = parser.parse_args(argv)
    modes = ["plain", *(args.modes or (list(MODES)[1:] if args.device == "cuda" else ["compile"]))]
    sizes = args.cfg, args.resolution, args.batch, args.precision
    runs = {mode: Run(*sizes, mode, args.device) for mode in modes}
    args.quick, args.flush_l2 = False, False
    report = {**environment(args), **dict(zip(("cfg", "resolution", "batch", "precision"), sizes, strict=True))}
    report["ms_phase"] = measure(runs, args.rounds)
    print(table(report))
    if args.json:
        (RESULTS / args.json).write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
