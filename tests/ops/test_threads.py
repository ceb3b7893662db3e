"""Threads: callers at the same time change nothing, and neither does the number of threads that compute."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from case import DTYPES, LAYOUTS, Case, like_random
from cases import CASES, MODULES

import gankern
from gankern import checks, convolution, dispatch, inputs_only, library

CALLERS = 8
CORE = [case for case in CASES if case.core]

# Calls with work for several threads: a function of float tensors of these shapes.
IMAGE, PER_SAMPLE, NOISE = (4, 32, 64, 48), (4, 32), (4, 1, 64, 48)
FILTER = gankern.setup_filter([1, 3, 3, 1])
LARGE: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "attention": (gankern.attention, ((3, 301, 9), (3, 77, 9), (3, 77, 35))),
    "bias_act": (lambda x, b: gankern.bias_act(x, b, act="swish"), (IMAGE, (32,))),
    "conditional_batch_norm": (
        lambda x, g, b: gankern.conditional_batch_norm(x, g, b, act="relu", up=2),
        (IMAGE, PER_SAMPLE, PER_SAMPLE),
    ),
    "fade": (lambda x, old: gankern.fade(x, old, 0.3), (IMAGE, (4, 32, 32, 24))),
    "filtered_lrelu": (
        lambda x, b: gankern.filtered_lrelu(x, FILTER, FILTER, b, up=2, down=2, padding=3),
        (IMAGE, (32,)),
    ),
    "grid_sample": (lambda x, grid: gankern.grid_sample(x, grid.float()), (IMAGE, (4, 64, 48, 2))),
    "minibatch_stddev": (lambda x: gankern.minibatch_stddev(x, 2), (IMAGE,)),
    "pixel_norm": (lambda x: gankern.pixel_norm(x), (IMAGE,)),
    "spectral_norm_batched": (
        lambda w, v: torch.cat(
            [y.flatten() for y in gankern.spectral_norm_batched([w, v], [torch.ones(257), torch.ones(128)])]
        ),
        ((257, 64, 3, 3), (128, 300)),
    ),
    "squared_norms": (lambda x: gankern.squared_norms(x), (IMAGE,)),
    "style_epilogue": (
        lambda x, noise, k, b, scale, shift: gankern.style_epilogue(x, noise, k, b, scale, shift),
        (IMAGE, NOISE, (32,), (32,), PER_SAMPLE, PER_SAMPLE),
    ),
    "styled_bias_act": (
        lambda x, scale, noise, k, b: gankern.styled_bias_act(x, scale, noise, k, b, act="lrelu"),
        (IMAGE, PER_SAMPLE, NOISE, (32,), (32,)),
    ),
    "upfirdn2d": (lambda x: gankern.upfirdn2d(x, FILTER, up=2, padding=2), (IMAGE,)),
    "upsample_add": (lambda x, y: gankern.upsample_add(x, y, FILTER), (IMAGE, (4, 32, 128, 96))),
    "winograd": (lambda x, w: gankern.winograd(x, w), (IMAGE, (48, 32, 3, 3))),
    "winograd_strided": (lambda x, w: gankern.winograd_strided(x, w), (IMAGE, (48, 32, 3, 3))),
}


@pytest.fixture(autouse=True)
def switch_often():
    """Between Python's threads, so that they meet in the middle of calls."""
    interval, threads = sys.getswitchinterval(), torch.get_num_threads()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)
    torch.set_num_threads(threads)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """work(0), work(1), ... of callers that start together."""
    together = threading.Barrier(CALLERS)

    def run(i: int) -> Any:
        together.wait()
        return work(i)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(run, range(CALLERS)))


def same(results: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: str) -> None:
    for name, value in results.items():
        assert torch.equal(value, expected[name]), f"{what}: {name}"


def results_of(case: Case, dtype: torch.dtype, backend: str) -> dict[str, torch.Tensor]:
    return case.run_with_gradients(case.arguments(dtype), backend)


def large_results(op: str, layout: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    function, shapes = LARGE[op]
    generator = torch.Generator().manual_seed(5)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    tensors = [LAYOUTS[layout](t) if t.ndim == 4 else t for t in tensors]
    inputs = [t.requires_grad_() for t in tensors]
    with gankern.use_backend("native"):
        y = function(*inputs)
        gradients = torch.autograd.grad(y, inputs, like_random(y))
    return {"y": y.detach(), **{f"gradient {i}": g for i, g in enumerate(gradients)}}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.removeprefix("cases_"))
def test_eight_callers_at_once_get_what_one_gets(module, backend, device):
    """Forward and backward, of different calls at the same time."""
    if (backend, device) == ("triton", "cpu"):
        pytest.skip("the interpreter is not made for threads")
    cases = [case for case in module.CASES if case.core or case.small][:CALLERS]
    cases = [case for case in cases if dispatch.why_not(case.kernel, backend, device) is None]
    torch.set_num_threads(1)
    expected = [results_of(case, torch.float32, backend) for case in cases]

    def work(i: int) -> None:
        torch.set_num_threads(1)
        for k in range(len(cases)):
            case = cases[(i + k) % len(cases)]
            same(results_of(case, torch.float32, backend), expected[(i + k) % len(cases)], case.id)

    at_once(work)


def test_every_op_with_loops_of_its_own_is_called_large():
    loops = {
        op for op, order in dispatch.ORDER.items() if "native" in order["cpu"] and (op, "cpu") not in dispatch.COMPOSED
    }
    assert set(LARGE) == loops


@pytest.mark.skipif(dispatch.why_not("bias_act", "native", "cpu") is not None, reason="the native library is not built")
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("op", LARGE)
def test_any_number_of_threads_gives_the_same_bits(op, layout, dtype):
    results = {}
    for number in (1, 2, 7):
        torch.set_num_threads(number)
        results[number] = large_results(op, layout, DTYPES[dtype])
    for number in (2, 7):
        same(results[number], results[1], f"{number} threads")


@pytest.mark.skipif(dispatch.why_not("winograd", "native", "cpu") is not None, reason="the native library is not built")
def test_convolutions_of_eight_callers_are_each_of_their_own_weights():
    """Of few tiles and of many: none finds another's numbers in the transform domain."""
    generator, calls = torch.Generator().manual_seed(5), []
    for shape, o, number in (([4, 48, 8, 8], 33, 6), ([3, 140, 12, 10], 40, 4), ([2, 40, 24, 25], 48, 4)):
        x = torch.randn(shape, generator=generator)
        for w in torch.randn([number, o, shape[1], 3, 3], generator=generator):
            assert convolution.is_winograd(x, w, [1, 1])
            calls.append((x, w, torch.nn.functional.conv2d(x.double(), w.double(), padding=1)))

    def work(caller: int) -> None:
        torch.set_num_threads(1)
        for k in range(2 * len(calls)):
            x, w, expected = calls[(5 * caller + 3 * k) % len(calls)]
            y = gankern.conv2d(x, w, padding=1)
            torch.testing.assert_close(y.double(), expected, rtol=0, atol=2e-5 * expected.abs().max().item())

    at_once(work)


def test_who_entered_first_may_leave_first():
    """As two threads do; both settings are of the whole process."""
    forced = dispatch._forced
    for first, second in (
        (gankern.use_backend("eager"), gankern.use_backend("native")),
        (inputs_only(), inputs_only()),
    ):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        second.__exit__(None, None, None)
    assert dispatch._forced == forced
    assert library._inputs_only == 0


def test_settings_of_eight_threads_leave_nothing_behind():
    forced = dispatch._forced

    def work(i: int) -> None:
        for _ in range(50):
            with gankern.use_backend(("eager", "native")[i % 2]), inputs_only():
                pass

    at_once(work)
    assert dispatch._forced == forced
    assert library._inputs_only == 0


def test_kernels_that_add_in_no_fixed_order_are_known():
    """Each of them asks `checks.check_deterministic`."""
    root = Path(gankern.__file__).parents[1]
    sources = [*root.glob("gankern/triton/*.py"), *root.glob("csrc/c*/*.*")]
    adding = {path.stem for path in sources if "atomic_add(" in (text := path.read_text()) or "atomicAdd" in text}
    assert adding == {"grid_sample"}
    assert "checks.check_deterministic(" in (root / "gankern/ops/grid_sample.py").read_text()


@pytest.mark.parametrize(("mode", "outcome"), [("off", None), ("warn", UserWarning), ("on", RuntimeError)])
def test_an_op_that_is_not_deterministic_says_so_as_torchs_do(mode, outcome, monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: mode != "off")
    monkeypatch.setattr(torch, "is_deterministic_algorithms_warn_only_enabled", lambda: mode == "warn")
    with warnings.catch_warnings(record=mode == "warn") as caught:
        context = pytest.raises(outcome, match=r"gankern\.grid_sample") if mode == "on" else contextlib.nullcontext()
        with context:
            checks.check_deterministic("grid_sample", "for its sum has no fixed order")
    assert [type(w.message) for w in caught or []] == ([UserWarning] if mode == "warn" else [])


def test_deterministic_algorithms_give_the_same_bits_twice():
    enabled, only_warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True)
    try:
        for case in CORE:
            bits = [results_of(case, torch.float32, "native") for _ in range(2)]
            same(bits[0], bits[1], case.id)
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=only_warns)
