"""The times of phases."""

import pytest
import torch

from gankern.models.training.timing import PhaseTimer


def test_times_are_milliseconds_of_each_run_and_are_forgotten_once_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.0, 1.25, 2.0, 2.001])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = PhaseTimer(torch.device("cpu"))
    for name in ("Gmain", "Gmain"):
        with timer.phase(name):
            pass
    with timer.host("data"):
        pass
    assert timer.read() == {"Gmain": [500, 250], "data": [pytest.approx(1)]}
    assert timer.read() == {}


class FakeEvent:
    """A CUDA event whose time is the number of events recorded before it; knows who waited for it."""

    recorded = 0
    waited: tuple[int, ...] = ()

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        self.at = FakeEvent.recorded
        FakeEvent.recorded += 1

    def synchronize(self) -> None:
        FakeEvent.waited += (self.at,)

    def elapsed_time(self, end: "FakeEvent") -> float:
        return float(end.at - self.at)


def test_on_a_gpu_events_are_waited_for_when_they_are_read_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.Event", FakeEvent)
    timer = PhaseTimer(torch.device("cuda"))
    for name in ("Gmain", "Dmain", "Gmain"):
        with timer.phase(name):
            pass
    assert FakeEvent.waited == ()
    assert timer.read() == {"Gmain": [1, 1], "Dmain": [1]}
    assert FakeEvent.waited == (1, 3, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_itself() -> None:
    timer = PhaseTimer(torch.device("cuda"))
    x = torch.randn(2048, 2048, device="cuda")
    with timer.phase("Gmain"):
        for _ in range(20):
            x = x @ x.softmax(0)
    (ms,) = timer.read()["Gmain"]
    assert 0 < ms < 10_000
