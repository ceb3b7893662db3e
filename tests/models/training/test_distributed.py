"""Two ranks train as one process with the whole batch does, and none waits for one that is gone."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rank_program
import torch
import torch.distributed as dist
from test_loop import losses
from tiny import tiny_state

from gankern.models.launch import launch
from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.random_states import saved_ranks

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="this torch has no gloo"),
]
PROGRAM = [sys.executable, rank_program.__file__]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process and two ranks leave of all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    cases = ",".join(rank_program.EQUAL)
    alone = subprocess.Popen([*PROGRAM, cases, folder])
    assert launch(2, [*PROGRAM, f"{cases},resume,facts", str(folder)]) == 0
    assert alone.wait() == 0
    return folder


def results(folder: Path, name: str) -> list[dict[str, Any]]:
    return [flat(torch.load(folder / f"{name}-{rank}of2.pt")) for rank in range(2)]


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dictionaries and lists as one dictionary, without what is None."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{name}.{key}").items()}
    if isinstance(value, list | tuple):
        return {k: v for key, item in enumerate(value) for k, v in flat(item, f"{name}.{key}").items()}
    return {} if value is None else {name: value}


@pytest.mark.parametrize("name", rank_program.EQUAL)
def test_two_ranks_are_one_process_with_the_whole_batch(folder: Path, name: str) -> None:
    whole = flat(torch.load(folder / f"{name}-0of1.pt"))
    ranks = results(folder, name)
    compared = [key for key in whole if not key.startswith((".stats", ".mean_stats", ".rng"))]
    assert any(key.startswith(".G_ema") for key in compared)
    for key in compared:
        expected = torch.as_tensor(whole[key])
        assert torch.equal(torch.as_tensor(ranks[0][key]), torch.as_tensor(ranks[1][key])), key
        limit = 1e-10 * expected.double().abs().max().item() + 1e-13  # some gradients are 0 but for rounding
        torch.testing.assert_close(torch.as_tensor(ranks[0][key]), expected, rtol=0, atol=limit, msg=key)


@pytest.mark.parametrize("name", rank_program.EQUAL)
def test_statistics_are_those_of_the_whole_batch_on_every_rank(folder: Path, name: str) -> None:
    whole = flat(torch.load(folder / f"{name}-0of1.pt"))
    stats = [key for key in whole if key.startswith(".mean_stats")]
    assert len(stats) > 10
    for found in results(folder, name):
        assert [found[key] for key in stats] == pytest.approx([whole[key] for key in stats], rel=1e-5, abs=1e-5)


def test_two_ranks_resume_bit_for_bit(folder: Path) -> None:
    for rank in range(2):
        whole, parts = (results(folder, name)[rank] for name in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        for key, value in whole.items():
            assert torch.equal(torch.as_tensor(parts[key]), torch.as_tensor(value)), key
    assert losses(folder / "whole") == losses(folder / "parts")
    assert len(losses(folder / "whole")) == 4


def test_another_number_of_ranks_goes_on_with_other_random_numbers(folder: Path) -> None:
    snapshot = latest_snapshot(folder / "whole")
    assert snapshot
    saved, _ = load_snapshot(snapshot)
    assert saved_ranks(saved) == 2
    state = tiny_state()
    state.load_state_dict(saved)
    drawn = torch.randn(3)
    assert state.cur_nimg == saved["cur_nimg"]
    torch.testing.assert_close(state.G.state_dict(), saved["G"], rtol=0, atol=0)
    assert not torch.equal(torch.get_rng_state(), saved["rng_ranks"][0]["cpu"])
    state.load_state_dict(saved)
    assert torch.equal(drawn, torch.randn(3))


def test_ranks_share_out_images_and_latents_and_differ_in_noise(folder: Path) -> None:
    first, second = (torch.load(folder / f"facts-{rank}of2.pt") for rank in range(2))
    seen = [n for pair in zip(first["indices"], second["indices"]) for part in pair for n in part]
    assert sorted(seen) == sorted([*range(20)] * 2)
    assert sorted(seen[:8]) != sorted(seen[8:16])
    alone = tiny_state().random
    torch.manual_seed(0)
    for rank, found in enumerate((first, second)):
        torch.manual_seed(rank_program.OPTIONS.seed)
        assert torch.equal(found["z"], alone.latents(8, 4)[rank::2])
    assert not torch.equal(first["noise"], second["noise"])


def test_what_one_rank_wants_all_do_at_the_same_call(folder: Path) -> None:
    for rank in range(2):
        assert torch.load(folder / f"facts-{rank}of2.pt")["stops"] == [False] * 4 + [True] * 3


def test_ranks_that_differ_by_one_bit_are_noticed(folder: Path) -> None:
    for rank in range(2):
        found = torch.load(folder / f"facts-{rank}of2.pt")
        assert found["differ"] == "training: D.out.bias of rank 1 is no longer that of the other ranks"


def test_a_batch_that_cannot_be_shared_out_is_refused(folder: Path) -> None:
    found = torch.load(folder / "facts-0of2.pt")
    assert found["batch"] == "training options: batch must be a multiple of the 2 processes, got 9"


@pytest.fixture
def accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[int, float]]]:
    """Launches two ranks that train without end, lets something happen to them, and gives status and seconds."""

    def happens(what: Callable[[list[int]], object], timeout: float = 100.0) -> tuple[int, float]:
        monkeypatch.setenv("TIMEOUT", str(timeout))
        began: list[float] = []

        def later() -> None:
            while not all(step(tmp_path, rank) >= 72 for rank in range(2)):
                time.sleep(0.05)
            began.append(time.monotonic())
            what([int((tmp_path / f"pid{rank}").read_text()) for rank in range(2)])

        thread = threading.Thread(target=later, daemon=True)
        thread.start()
        status = launch(2, [*PROGRAM, "endless", str(tmp_path)])
        thread.join()
        return status, time.monotonic() - began[0]

    yield happens
    for rank in range(2):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid{rank}").read_text()), 0)


def step(folder: Path, rank: int) -> int:
    try:
        return int((folder / f"step{rank}").read_text() or -1)
    except FileNotFoundError:
        return -1


KILLED = r"rank 1 \(process \d+ on \S+\) was ended by SIGKILL"
RAISED = r"rank 1 \(process \d+ on \S+\): there is something wrong with rank 1"
SILENT = r"rank 1 \(process \d+ on \S+\) has given no sign of life for 5 s"
STUCK = r"rank 1 \(process \d+ on \S+\) is stuck: the others have been waiting for 5 s"


@pytest.mark.parametrize(
    ("number", "file", "timeout", "sentence"),
    [
        (signal.SIGKILL, "", 100, KILLED),
        (None, "raise", 100, RAISED),
        (signal.SIGSTOP, "", 5, SILENT),
        (None, "hang", 5, STUCK),
    ],
    ids=["killed", "raises", "stopped", "hangs"],
)
def test_a_rank_that_is_gone_ends_the_run_with_one_sentence(
    accident: Callable[..., tuple[int, float]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    number: int | None,
    file: str,
    timeout: float,
    sentence: str,
) -> None:
    if file:
        (tmp_path / file).touch()
    status, seconds = accident(lambda pids: os.kill(pids[1], number) if number else None, timeout)
    assert status == 1
    assert seconds < (timeout if timeout < 10 else 0) + 15
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if not line.startswith("kimg")] == [lines[-1]]
    assert re.fullmatch(f"gankern test: {sentence}; to continue: HOW", lines[-1])


def test_a_signal_to_one_rank_stops_all_at_the_same_step_with_a_snapshot(
    accident: Callable[..., tuple[int, float]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status, _ = accident(lambda pids: os.kill(pids[1], signal.SIGTERM))
    assert status == 0
    assert capfd.readouterr().err == ""
    snapshot = latest_snapshot(tmp_path)
    assert snapshot
    stopped = {torch.load(tmp_path / f"stopped-{rank}of2.pt")["cur_nimg"] for rank in range(2)}
    assert stopped == {load_snapshot(snapshot)[0]["cur_nimg"]}


def test_the_command_starts_two_processes_stops_them_at_a_signal_and_goes_on_with_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gankern.models.cli", "train", "--outdir", tmp_path]
    options = ["--data", "digits:8", "--cfg", "digits", "--cond", "0", "--batch", "8", "--mbstd-global"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *options, "--gpus", "2"], stdout=pipe, stderr=pipe, text=True) as both:
        while not list(tmp_path.glob("*/fakes000000.png")):
            assert both.poll() is None
            time.sleep(0.05)
        both.send_signal(signal.SIGTERM)
        out, err = both.communicate()
    assert (both.returncode, err) == (0, "")
    assert "for each of 2 processes" in out
    assert out.count("run folder") == out.count("stopped at") == 1
    (run_dir,) = tmp_path.iterdir()
    assert json.loads((run_dir / "training_options.json").read_text())["training"]["mbstd_global"]
    longer = [*command, "--resume", "latest", "--kimg", "0.05"]
    again = subprocess.run(longer, capture_output=True, text=True, check=True).stdout
    assert "with 1 in place of 2 processes: the random numbers are others" in again
