"""Runs of the real command that are killed and stopped at random moments lose nothing."""

import json
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from interruptions import INTERVAL, POLITE, curve, interrupt, run_whole
from zygote import COMMON, RUNS, Zygote

from gankern.models.training.lock import LOCK, locked

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals and fork")


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


@pytest.mark.parametrize(("name", "kills"), [("stylegan2", 8), ("progan", 10), ("biggan", 2)])
def test_runs_that_are_killed_at_random_moments_go_on_bit_for_bit(
    tmp_path: Path, zygote: Zygote, name: str, kills: int
) -> None:
    whole = run_whole(zygote, name, tmp_path / "whole")
    signals = [signal.SIGKILL] * kills
    tally = interrupt(zygote, name, tmp_path / "parts", whole, signals, random.Random(kills))
    assert tally.interruptions == kills
    assert (tally.unreadable, tally.different_curves, tally.different_snapshots) == (0, 0, 0)
    assert tally.most_images_lost <= INTERVAL


def test_signals_that_ask_to_stop_lose_no_step(tmp_path: Path, zygote: Zygote) -> None:
    whole = run_whole(zygote, "progan", tmp_path / "whole")
    tally = interrupt(zygote, "progan", tmp_path / "parts", whole, POLITE, random.Random(0))
    assert tally.interruptions == len(POLITE)
    assert (tally.wrong_ends, tally.most_images_lost, tally.different_curves, tally.different_snapshots) == (0, 0, 0, 0)


def test_a_run_that_is_deterministic_is_the_same_again(tmp_path: Path, zygote: Zygote) -> None:
    curves = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        argv = ["train", *RUNS["stylegan2"], *COMMON, "--deterministic", "--outdir", str(folder)]
        assert zygote.start(argv, folder.with_suffix(".log")).wait().status == 0
        curves.append(curve(next(folder.iterdir())))
    assert curves[0] == curves[1]


def test_a_run_folder_is_used_by_one_process_at_a_time_and_is_free_once_that_is_killed(
    tmp_path: Path, zygote: Zygote
) -> None:
    outdir = tmp_path / "runs"
    child = zygote.start(["train", *RUNS["progan"], *COMMON, "--outdir", str(outdir)], tmp_path / "child.log")
    while child.running() and "run folder" not in child.text():
        time.sleep(0.001)
    child.signal(signal.SIGSTOP)  # it must not end meanwhile
    (run_dir,) = outdir.iterdir()
    holder = f"is in use by process {child.pid} on {socket.gethostname()}"
    with pytest.raises(OSError, match=holder), locked(run_dir):
        pass
    child.signal(signal.SIGKILL)
    assert child.wait().status == -signal.SIGKILL
    with locked(run_dir):
        assert json.loads((run_dir / LOCK).read_text())["pid"] == os.getpid()
