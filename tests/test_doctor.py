"""The doctor tells what runs, why the rest does not, and what is broken."""

from __future__ import annotations

import json

import pytest
import torch

from gankern import dispatch, doctor


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
