"""Runs of the real command that are killed and stopped at random moments lose nothing."""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from interruptions import INTERVAL, POLITE, interrupt, run_whole
from zygote import Zygote

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


def test_a_run_folder_is_used_by_one_process_at_a_time_and_free_once_that_is_dead(
    tmp_path: Path, zygote: Zygote
) -> None:
    outdir = tmp_path / "runs"
    start = ["train", *RUNS["progan"], *COMMON, "--outdir", str(outdir)]
    resume = ["--resume", "latest", "--outdir", str(outdir), "--device", "cpu"]
    first = zygote.start(start, tmp_path / "first.log")
    while first.running() and not list(outdir.glob("*/network-snapshot-*.pt")):
        time.sleep(0.001)
    done = subprocess.run([sys.executable, "-m", "gankern.models.cli", "train", *resume], capture_output=True, text=True)
    assert done.returncode == 1
    if first.running():
        assert f"is in use by process {first.pid} on {socket.gethostname()}" in done.stderr
