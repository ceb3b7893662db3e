"""The doctor tells what runs, why the rest does not, and what is broken."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import shutil
from pathlib import Path

import pytest
import torch

from gankern import convolution_table, dispatch, doctor


def row(op: str, backend: str, device: str = "cpu") -> dict[str, str]:
    found = [r for r in doctor.backends() if (r["op"], r["backend"], r["device"]) == (op, backend, device)]
    assert len(found) == 1
    return found[0]


def test_every_op_backend_and_device_has_a_row_and_every_refusal_a_reason():
    rows = doctor.backends()
    assert len(rows) == len(dispatch.OPS) * len(dispatch.BACKENDS) * 2
    for found in rows:
        assert found["status"] in ("ok", "missing")
        assert bool(found["reason"]) == (found["status"] == "missing")
        if found["device"] == "cpu":
            assert found["reason"] == (dispatch.why_not(found["op"], found["backend"], "cpu") or "")


def test_every_op_has_a_run():
    assert set(doctor.RUNS) == set(dispatch.OPS)


def test_the_command_prints_versions_and_the_table(capsys):
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    for name in ("gankern", "python", "torch", "numpy", "triton", "native", "gpu"):
        assert f"\n{name}" in f"\n{printed}"
    assert torch.__version__ in printed
    wide = max(map(len, dispatch.OPS))
    assert f"{'upfirdn2d':{wide}s} eager    cpu     ok" in printed
    table = printed[printed.index("\nop") + 1 :].splitlines()
    assert {line[wide] for line in table} == {" "}, "all names fit into the column"


def test_json_says_the_same(capsys):
    assert doctor.main(["--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["versions"]["torch"] == torch.__version__
    assert report["backends"] == doctor.backends()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            lambda x, backend: x if x.dtype == torch.float64 else 1.01 * x,  # 1.01 to the fourth power in the penalty
            "differs from the reference by 4.1e-02",
        ),
        (
            lambda x, backend: x * float("nan") if x.dtype == torch.float32 else x.square(),
            "differs from the reference by nan",
        ),
        (lambda x, backend: x.no_such_thing, "AttributeError"),
    ],
    ids=["wrong", "nan", "crash"],
)
def test_a_kernel_that_is_there_and_broken_is_an_error(fault, reason, monkeypatch, capsys):
    monkeypatch.setitem(doctor.RUNS, "bias_act", fault)
    assert row("bias_act", "eager")["status"] == "broken"
    assert reason in row("bias_act", "eager")["reason"]
    assert doctor.main([]) == 1
    assert "broken: " in capsys.readouterr().out


def test_a_native_library_that_does_not_load_is_broken_and_one_that_is_not_built_is_missing(monkeypatch):
    monkeypatch.setitem(dispatch.MISSING, ("bias_act", "native", "cpu"), "_C.so does not load")
    monkeypatch.setattr(doctor, "_is_present", lambda backend, device: backend == "native" and device == "cpu")
    assert row("bias_act", "native")["status"] == "broken"
    monkeypatch.setattr(doctor, "_is_present", lambda backend, device: False)
    assert row("bias_act", "native")["status"] == "missing"


def without_package(name):
    def break_it(monkeypatch, place):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda other: None if other == name else real(other))
        monkeypatch.setattr(doctor, "FOLDER", place)

    return break_it


def without_compiler(monkeypatch, place):
    monkeypatch.setattr(doctor, "FOLDER", place)
    monkeypatch.setattr(shutil, "which", lambda name: None)


def with_a_compiler_that_is_not_there(monkeypatch, place):
    monkeypatch.setattr(doctor, "FOLDER", place)
    monkeypatch.setenv("CXX", "/opt/gone/g++ -O2")


def with_an_old(name):
    def break_it(monkeypatch, place):
        if name == "PyTorch":
            monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
        else:
            monkeypatch.setattr(platform, "python_version", lambda: "3.10.14")

    return break_it


def with_a_stale_library(monkeypatch, place):
    source = place / "csrc" / "cpu" / "bias_act.cpp"
    source.parent.mkdir(parents=True)
    source.touch()
    (place / "gankern").mkdir()
    (place / "gankern" / "_C.abi3.so").touch()
    os.utime(place / "gankern" / "_C.abi3.so", (1, 1))
    monkeypatch.setattr(doctor, "FOLDER", place / "gankern")


def with_a_cache_that_is_a_file(monkeypatch, place):
    (place / "cache").touch()
    monkeypatch.setattr(convolution_table, "OWN", place / "cache" / "gankern" / "table.json")


def with_a_host_module_of_another_python(monkeypatch, place):
    def fail(name):
        raise ImportError("undefined symbol: PyThing")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib, "import_module", fail)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (without_compiler, "there is no C++ compiler `c++`; install g++ or set CXX"),
        (with_a_compiler_that_is_not_there, "there is no C++ compiler `/opt/gone/g++`"),
        (without_package("ninja"), "the package ninja is missing; pip install ninja"),
        (without_package("pybind11"), "the package pybind11 is missing; pip install pybind11"),
        (with_an_old("Python"), "Python must be 3.11 or later, it is 3.10.14"),
        (with_an_old("PyTorch"), "PyTorch must be 2.11 or later, it is 2.9.1+cpu"),
        (with_a_stale_library, "_C.abi3.so is older than csrc/cpu/bias_act.cpp; build it anew"),
        (with_a_cache_that_is_a_file, "cannot be written; set XDG_CACHE_HOME"),
        (with_a_host_module_of_another_python, "gankern._host does not load (undefined symbol: PyThing)"),
    ],
)
def test_a_broken_set_up_is_named(break_it, sentence, monkeypatch, tmp_path: Path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(doctor, "_stale_library", lambda: None) if break_it is not with_a_stale_library else None
    break_it(monkeypatch, tmp_path)
    assert [problem for problem in doctor.problems() if sentence in problem]
