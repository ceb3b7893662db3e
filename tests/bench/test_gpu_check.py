"""The check for machines with a GPU: what of it runs without one."""

import re
from pathlib import Path

import pytest

from bench import gpu_check
from bench.gpu_check import ROOT, Step, run, said, steps, table


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "LOGS", tmp_path)


def test_a_step_says_how_it_ended() -> None:
    assert run(Step("kernels", "echo 12 cases ran", 20), 60)["result"] == "ok"
    assert run(Step("kernels", "echo 12 cases ran", 20), 60)["said"] == "12 cases ran"
    failed = run(Step("tests", "echo why; exit 3", 20), 60)
    assert (failed["result"], failed["tail"]) == ("failed with status 3", "why\n")


def test_a_step_that_takes_too_long_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "SHORTEST", 0.1)
    slow = run(Step("ops", "sleep 60 & sleep 60", 0.3), 60)
    assert slow["result"] == "out of time"
    assert slow["seconds"] < 10


def test_a_step_is_not_begun_when_the_budget_is_spent() -> None:
    assert run(Step("ops", "false", 100), 5)["result"].startswith("not run")


def test_what_tools_print_becomes_one_line() -> None:
    assert said("tests", "....\n1203 passed, 4 skipped in 80.1s\n") == "1203 passed, 4 skipped in 80.1s"
    assert said("memcheck", "========= ERROR SUMMARY: 0 errors\n") == "ERROR SUMMARY: 0 errors"
    assert said("racecheck", "= RACECHECK SUMMARY: 0 hazards displayed\n") == "RACECHECK SUMMARY: 0 hazards displayed"


def test_the_table_has_the_machine_and_every_step() -> None:
    about = {"name": "NVIDIA H200", "driver_version": "580", "torch": "2.11", "ceilings": {"copy_gb_per_s": 4300.0}}
    step = {"name": "tests", "result": "ok", "seconds": 80.0, "said": "1203 passed"}
    lines = table({"machine": about, "steps": [step]}).splitlines()
    assert lines[0] == "NVIDIA H200, driver 580, torch 2.11; copy_gb_per_s 4300"
    assert lines[-1] == "| tests | ok | 80 | 1203 passed |"


def test_every_step_runs_something_that_is_there_and_the_limits_fit_into_ten_minutes() -> None:
    all_steps = steps(Path("logs"), Path("peer"))
    for step in all_steps:
        for module in re.findall(r"-m (bench\.\S+)", step.command):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module
        for path in re.findall(r"\s(tests/\S+)", step.command):
            assert (ROOT / path).exists(), path
    assert sum(step.limit for step in all_steps if step.name in ("build", "kernels", "tests")) < 530
