"""What a rank makes of the others' signs of life, with a store and a clock that the tests move."""

import json
import os
import time
from dataclasses import asdict, replace

import pytest
import torch.distributed as dist

from gankern.models.watch import FINISHED, Sign, Watch, sign_key

PEER = Sign(pid=os.getpid(), host="elsewhere", beats=1)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Rank 0 of 2, with a timeout of 10 s and a clock that stands at 1000 s."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    return Watch(dist.HashStore(), "test", 0, 2, timeout=10.0)


def says(watch: Watch, sign: Sign) -> None:
    watch.store.set(sign_key(1), json.dumps(asdict(sign)))
    watch._read()


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + seconds)


def test_a_rank_that_lives_is_not_lost(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in range(0, 100, 5):
        later(monkeypatch, second)
        says(watch, replace(PEER, beats=second + 1))
        assert watch._lost() is None


def test_a_rank_that_never_comes_is_lost_after_the_timeout(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    later(monkeypatch, 9)
    assert watch._lost() is None
    later(monkeypatch, 11)
    assert watch._lost() == "rank 1 has given no sign of life for 10 s"


def test_a_rank_that_falls_silent_is_lost_after_the_timeout(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    says(watch, PEER)
    later(monkeypatch, 11)
    says(watch, PEER)
    assert watch._lost() == f"rank 1 (process {PEER.pid} on elsewhere) has given no sign of life for 10 s"


@pytest.mark.parametrize(("steps", "busy", "lost"), [(4, 0, True), (5, 0, False), (4, 1, False)])
def test_a_rank_that_the_others_wait_for_is_stuck_unless_it_is_busy(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, steps: int, busy: int, lost: bool
) -> None:
    watch.own.steps = 5
    watch._publish()
    for second in range(12):
        later(monkeypatch, second)
        says(watch, replace(PEER, beats=second + 1, steps=steps, busy=busy))
    assert ("is stuck" in (watch._lost() or "")) == lost


def test_a_rank_says_itself_why_it_ended(watch: Watch) -> None:
    says(watch, replace(PEER, end="rank 1: no such file"))
    assert watch._lost() == "rank 1: no such file"


def test_nobody_waits_for_a_rank_that_has_finished(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    says(watch, replace(PEER, end=FINISHED))
    later(monkeypatch, 100)
    assert watch._lost() is None
