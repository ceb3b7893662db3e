"""`pytest bench/`: one pytest-benchmark entry for each case, mode and variant, after the case's parity check."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import pytest
import torch

from bench import harness


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="where the ops run")
    parser.addoption("--compile", action="store_true", help="torch.compile of eager too")


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_group_by = "group"
    config.option.benchmark_columns = ["median", "iqr", "rounds"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    device = metafunc.config.getoption("--device")
    compiled = ["compile"] if metafunc.config.getoption("--compile") else []
    entries = []
    for case in metafunc.module.cases(device):
        who = [*harness.eagers(case), *compiled, *harness.kernel_backends(case.op, device)]
        names = [f"{w} {layout}" for w in who for layout in harness.LAYOUTS]
        for mode in harness.MODES:
            for name in [*names, "copy"]:
                if not (name.startswith("compile") and mode == harness.MODES[2]):
                    marks = pytest.mark.benchmark(group=f"{case}, {mode}", max_time=0.2)
                    entries.append(pytest.param((case, mode, name), id=f"{case}-{mode}-{name}", marks=marks))
    metafunc.parametrize("call", entries, indirect=True)


@cache
def _check_once(case: harness.Case, device: str) -> None:
    harness.check_parity(case, device)


# The entries of one case and mode come one after the other, and share their tensors.
_variants = lru_cache(maxsize=1)(harness.variants)


@pytest.fixture
def call(request: pytest.FixtureRequest) -> Callable[[], object]:
    """The work to be timed; on a GPU it waits for the result."""
    case, mode, name = request.param
    device = request.config.getoption("--device")
    _check_once(case, device)
    work = _variants(case, mode, device, request.config.getoption("--compile"))[name]
    work()
    return work if device == "cpu" else lambda: _finish(work)


def _finish(work: Callable[[], object]) -> None:
    work()
    torch.cuda.synchronize()
