"""Every kernel once, small: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python tests/gpu/every_kernel.py [--backend native|triton]

Each op's cases that take little memory, forward, backward, and twice backward, in float32 and bfloat16.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ops"))

from case import DTYPES, Case, like_random
from cases import CASES

from gankern import dispatch

LARGEST = 2**16  # elements of the main tensor: the tools make kernels ten to a hundred times slower
OF_EACH_OP = 4


def small_cases(backend: str, device: str) -> Iterator[Case]:
    """A few cases of each op that the backend runs, those with different options first."""
    taken: dict[str, int] = {}
    for case in sorted(CASES, key=lambda case: not case.core):
        runs = case.op in dispatch.ORDER and dispatch.why_not(case.op, backend, device) is None
        if runs and math.prod(case.shape) <= LARGEST and taken.get(case.op, 0) < OF_EACH_OP:
            taken[case.op] = taken.get(case.op, 0) + 1
            yield case


def run(case: Case, dtype: torch.dtype, backend: str, device: str) -> None:
    """Forward, backward, and the gradient of the first gradient."""
    arguments = case.arguments(dtype, device)
    inputs = {name: arguments[name].detach().requires_grad_() for name in case.differentiable(arguments)}
    y = case.run({**arguments, **inputs}, backend)
    dy = like_random(y).requires_grad_()
    gradients = torch.autograd.grad(y, list(inputs.values()), dy, create_graph=True)
    if gradients[0].requires_grad:
        torch.autograd.grad(gradients[0].square().sum(), [dy, *inputs.values()], allow_unused=True)
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="native", choices=("native", "triton"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    args = parser.parse_args()
    done = 0
    for case in small_cases(args.backend, args.device):
        for name in ("fp32", "bf16"):
            print(f"{case.id} {name}", flush=True)  # the last line before a report names its case
            run(case, DTYPES[name], args.backend, args.device)
            done += 1
    print(f"{done} cases ran")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
