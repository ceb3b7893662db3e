"""When `--gpus` starts processes, and what it refuses; whole runs are in training/test_distributed.py."""

import sys

import pytest
import torch

from gankern.models.launch import launch, ranks_started, ranks_to_start, threads_each

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_processes_start_only_where_several_are_asked_for() -> None:
    assert [ranks_to_start(gpus, CPU) for gpus in (None, 1, 2)] == [0, 0, 2]


def test_processes_that_are_there_are_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert ranks_started() == 2
    assert ranks_to_start(2, CPU) == 0
    with pytest.raises(ValueError, match="--gpus must be the number of processes that were started, 2, got 3"):
        ranks_to_start(3, CPU)


def test_more_gpus_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--gpus 2: this machine has 1"):
        ranks_to_start(2, torch.device("cuda"))
    with pytest.raises(ValueError, match="--gpus must be positive, got 0"):
        ranks_to_start(0, CPU)


def test_threads_are_shared_out() -> None:
    assert threads_each(1) >= threads_each(2) >= threads_each(10**6) == 1


def test_every_process_knows_its_number_and_a_failure_is_the_status(tmp_path) -> None:
    write = "import os, pathlib; e = os.environ; pathlib.Path(e['RANK']).write_text(e['WORLD_SIZE'] + e['LOCAL_RANK'])"
    program = f"import os; os.chdir({str(tmp_path)!r}); {write}"
    assert launch(2, [sys.executable, "-c", program]) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["20", "21"]
    assert launch(2, [sys.executable, "-c", "import os, sys; sys.exit(os.environ['RANK'] == '1')"]) == 1


def test_a_process_that_is_killed_before_it_joins_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import os, signal, time; os.kill(os.getpid(), signal.SIGKILL) if os.environ['RANK'] == '1' else 0"
    assert launch(2, [sys.executable, "-c", program]) == 1
    assert "was ended by SIGKILL" in capfd.readouterr().err
