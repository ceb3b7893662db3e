"""Random shapes, strides, dtypes and arguments: never a crash, never a difference from the reference.

A cases_<op>.py may have `random_case(rng, name) -> Case`, a call that its op must accept. GANKERN_RANDOM_CASES sets how
many of them run for every op and backend.
"""

from __future__ import annotations

import math
import os
import random

import pytest
import torch
from case import DTYPES, LAYOUTS, Case
from cases import MODULES

import gankern

NUMBER = int(os.environ.get("GANKERN_RANDOM_CASES", "40"))
OPS = [module for module in MODULES if hasattr(module, "random_case")]


def layouts(case: Case) -> list[str]:
    return list(LAYOUTS) if case.images else ["contiguous"]


def check(case: Case, dtype: str, layout: str, backend: str, device: str) -> None:
    """Result and gradients err at most four times as much as eager's in the same precision, or a few last places.

    Twice is the rule of the contract; the largest of a few roundings may by chance be small.
    """
    arguments = case.arguments(DTYPES[dtype], device, layout)
    exact = case.run_with_gradients(case.widened(arguments), "eager")
    eager = case.run_with_gradients(arguments, "eager")
    for name, value in case.run_with_gradients(arguments, backend).items():
        assert value.dtype == eager[name].dtype, name
        assert value.shape == eager[name].shape, name
        if value.numel():
            assert torch.equal(value.isfinite(), eager[name].isfinite()), f"{name} is not finite"
            error = (value.double() - exact[name]).abs().max().item()
            eps = torch.finfo(DTYPES[dtype]).eps * (16 if dtype in ("fp32", "fp64") else 1)
            # A sum of roundings of terms of size 1 is random: eager's own may by chance be small.
            terms = max(1, math.prod(case.shape) / value.numel())
            allowed = 4 * (eager[name].double() - exact[name]).abs().max().item()
            allowed += case.of_largest * exact[name].abs().max().item() if dtype == "fp32" else 0
            allowed += eps * max(exact[name].abs().max().item(), terms**0.5)
            if dtype == "fp64":  # eager's error is unknown: it is the measure
                allowed += 1e-10 * exact[name].abs().max().item() + 1e-11
            assert error <= allowed, f"{name} is off by {error:.3g}, allowed are {allowed:.3g}"


@pytest.mark.kernels
@pytest.mark.parametrize("module", OPS, ids=lambda module: module.__name__.removeprefix("cases_"))
def test_random_calls_equal_the_reference(module, backend, device):
    if backend == "triton" and device == "cpu":
        pytest.skip("the interpreter is too slow for many cases")
    for seed in range(NUMBER):
        rng = random.Random(seed)
        case = module.random_case(rng, f"random_{seed}")
        if gankern.dispatch.why_not(case.kernel, backend, device) is not None:
            pytest.skip("no kernels")
        dtype, layout = rng.choice(list(DTYPES)), rng.choice(layouts(case))
        try:
            check(case, dtype, layout, backend, device)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {case.id} {case.options} {dtype} {layout}: {error}") from error
