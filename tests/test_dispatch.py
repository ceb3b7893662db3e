"""Which backend runs: forcing, precedence, refusals, explanations."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import gankern
from gankern import dispatch

X = torch.ones([1, 2, 3, 3])
CALLS = {
    "bias_act": lambda **kw: gankern.bias_act(X, act="lrelu", **kw),
    "upfirdn2d": lambda **kw: gankern.upfirdn2d(X, None, padding=1, **kw),
}
HAS_NATIVE = dispatch.why_not("bias_act", "native", "cpu") is None
needs_native = pytest.mark.skipif(not HAS_NATIVE, reason="the native library is not built")


class Namespaces(TorchDispatchMode):
    """The namespaces of all torch ops that ran."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.namespace)
        return func(*args, **(kwargs or {}))


def backend_of(call, **options) -> str:
    """The backend that did the work, seen from the kernels that ran."""
    with Namespaces() as namespaces:
        call(**options)
    own = namespaces.seen & {"gankern", "gankern_triton"}
    return {"gankern": "native", "gankern_triton": "triton"}[own.pop()] if own else "eager"


@pytest.fixture(autouse=True)
def nothing_forced(monkeypatch):
    monkeypatch.setattr(dispatch, "_forced", None)


@pytest.fixture
def triton_missing(monkeypatch):
    for op in dispatch.OPS:
        monkeypatch.setitem(dispatch.MISSING, (op, "triton", "cpu"), "the moon is full")


@needs_native
@pytest.mark.parametrize("op", CALLS)
def test_the_native_kernels_run_where_nothing_is_forced(op):
    assert backend_of(CALLS[op]) == "native"


@needs_native
@pytest.mark.parametrize("op", CALLS)
def test_the_argument_wins_over_use_backend(op):
    assert backend_of(CALLS[op], backend="eager") == "eager"
    with gankern.use_backend("eager"):
        assert backend_of(CALLS[op]) == "eager"
        assert backend_of(CALLS[op], backend="native") == "native"


@needs_native
def test_use_backend_nests_and_ends_when_an_error_does():
    with gankern.use_backend("native"):
        with pytest.raises(ZeroDivisionError), gankern.use_backend("eager"):
            1 / 0  # noqa: B018
        assert backend_of(CALLS["bias_act"]) == "native"
    assert dispatch._forced is None


@pytest.mark.parametrize("op", CALLS)
def test_a_forced_backend_that_cannot_run_says_why_and_never_falls_back(op, triton_missing):
    text = rf"gankern\.{op}: backend 'triton' cannot run on cpu: the moon is full"
    with pytest.raises(RuntimeError, match=text):
        CALLS[op](backend="triton")
    with gankern.use_backend("triton"), pytest.raises(RuntimeError, match=text):
        CALLS[op]()


def test_a_backend_that_is_missing_is_passed_over_when_nothing_is_forced(monkeypatch):
    monkeypatch.setitem(dispatch.MISSING, ("bias_act", "native", "cpu"), "not built")
    assert backend_of(CALLS["bias_act"]) == "eager"


@pytest.mark.parametrize("name", ["cuda", "Native", ""])
def test_an_unknown_backend_is_refused_with_the_list_of_known_ones(name):
    with (
        pytest.raises(ValueError, match=f"must be one of native, triton, eager, got '{name}'"),
        gankern.use_backend(name),
    ):
        pass
    if name:  # an empty string is no name, as in the environment
        with pytest.raises(ValueError, match="must be one of native, triton, eager"):
            CALLS["bias_act"](backend=name)


def test_a_device_without_kernels_runs_eager_and_refuses_the_others():
    assert dispatch.choose("bias_act", "mps") == "eager"
    with pytest.raises(RuntimeError, match="there are no native kernels for mps tensors; backend='eager' runs there"):
        dispatch.choose("bias_act", "mps", "native")


def test_meta_tensors_give_shapes():
    x = torch.empty([2, 3, 4, 5], device="meta")
    assert gankern.bias_act(x, act="lrelu").shape == x.shape
    assert gankern.upfirdn2d(x, None, up=2).shape == (2, 3, 8, 10)


def test_eager_on_a_gpu_warns_once_with_the_reasons(monkeypatch):
    for backend in ("native", "triton"):
        monkeypatch.setitem(dispatch.MISSING, ("bias_act", backend, "cuda"), f"no {backend}")
    monkeypatch.setattr(dispatch, "_warned", set())
    with pytest.warns(UserWarning, match=r"slow\. native: no native; triton: no triton\."):
        assert dispatch.choose("bias_act", "cuda") == "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dispatch.choose("bias_act", "cuda")


def test_explain_names_the_choice_and_every_refusal(triton_missing):
    lines = gankern.explain("bias_act", X).splitlines()
    assert lines[0] == "bias_act on cpu"
    assert [line.split()[0] for line in lines[1:]] == ["native", "triton", "eager"]
    assert sum("<- runs" in line for line in lines) == 1
    assert lines[2].endswith("the moon is full")
    assert gankern.explain("bias_act", "cpu") == gankern.explain("bias_act", X)
    with gankern.use_backend("eager"):
        assert gankern.explain("bias_act").endswith("eager   <- runs")
    with pytest.raises(ValueError, match=r"op must be one of bias_act, .*upfirdn2d"):
        gankern.explain("conv")


def in_a_new_process(code: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)


@pytest.mark.slow
def test_the_environment_variable_forces_a_backend_and_use_backend_wins_over_it():
    code = "import gankern\nprint(gankern.explain('bias_act'))\n"
    if HAS_NATIVE:
        code += "with gankern.use_backend('native'): print(gankern.explain('bias_act'))"
    ran = in_a_new_process(code, GANKERN_BACKEND="eager")
    assert ran.returncode == 0, ran.stderr
    running = [line.split()[0] for line in ran.stdout.splitlines() if "<- runs" in line]
    assert running == (["eager", "native"] if HAS_NATIVE else ["eager"])


@pytest.mark.slow
def test_a_wrong_environment_variable_is_an_error_at_import():
    ran = in_a_new_process("import gankern", GANKERN_BACKEND="fast")
    assert ran.returncode != 0
    assert "the environment variable GANKERN_BACKEND must be one of native, triton, eager, got 'fast'" in ran.stderr
