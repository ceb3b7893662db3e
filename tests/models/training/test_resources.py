"""How much memory a run uses."""

import sys

import pytest
import torch

from gankern.models.training.resources import memory_gb


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says so in /proc")
def test_memory_is_what_the_process_holds_and_the_most_it_held() -> None:
    before = memory_gb(torch.device("cpu"))
    block = torch.ones(2**26)  # a quarter of a GiB
    held = memory_gb(torch.device("cpu"))
    del block
    assert held["Resources/cpu_mem_gb"] - before["Resources/cpu_mem_gb"] == pytest.approx(0.25, abs=0.05)
    assert held["Resources/peak_cpu_mem_gb"] >= held["Resources/cpu_mem_gb"] - 0.05


def test_a_system_that_does_not_say_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: (_ for _ in ()).throw(FileNotFoundError(path)))
    assert memory_gb(torch.device("cpu")) == {}
