"""Whole runs: what they write, how they stop, and that resuming changes nothing."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import OPTIONS, tiny_state

from gankern.models.training import checkpoint, loop
from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.data import ImageData, batches, to_float
from gankern.models.training.loop import images_of, stop_on_signal, train, train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import NETWORKS, TrainingState


def run(
    run_dir: Path, data: ImageData, options: TrainingOptions = OPTIONS, resume: bool = False, stop_after: int = 10**9
) -> TrainingState:
    """Trains tiny networks, from the start or the run's snapshot, until its end or the given number of steps."""
    run_dir.mkdir(exist_ok=True)
    state = tiny_state(options)
    if resume:
        snapshot = latest_snapshot(run_dir)
        assert snapshot
        state.load_state_dict(load_snapshot(snapshot)[0])
    train(state, data, options, run_dir, {}, stop=lambda: state.cur_nimg >= stop_after * options.batch)
    return state


def losses(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "stats.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(("Timing", "Resources"))} for line in lines]


@pytest.mark.parametrize("stop_after", [1, 7, 10, 19])
@pytest.mark.parametrize("change", [{}, {"mirror": True, "seed": 3}], ids=["plain", "mirror-seed-3"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, digits8: ImageData, stop_after: int, change: dict[str, Any]
) -> None:
    options = replace(OPTIONS, **change)
    whole = run(tmp_path / "whole", digits8, options)
    run(tmp_path / "parts", digits8, options, stop_after=stop_after)
    torch.manual_seed(99)  # what happens between the sessions must not matter
    parts = run(tmp_path / "parts", digits8, options, resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 4
    a, b = whole.state_dict(), parts.state_dict()
    for name in (*NETWORKS, "pl_mean", "rng_cpu"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_a_longer_run_goes_on_as_if_it_had_been_long_from_the_start(tmp_path: Path, digits8: ImageData) -> None:
    longer = replace(OPTIONS, kimg=0.24)
    run(tmp_path / "whole", digits8, longer)
    run(tmp_path / "parts", digits8, replace(OPTIONS, kimg=0.1))
    run(tmp_path / "parts", digits8, longer, resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_run_leaves_pictures_statistics_and_snapshots(tmp_path: Path, digits8: ImageData) -> None:
    run(tmp_path, digits8)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"reals.png", "fakes000000.png", "timeline.png", "stats.jsonl", "network-snapshot-000000.pt"} <= names
    first = losses(tmp_path)[0]
    assert first["Progress/kimg"]["mean"] == 0.04
    assert first["Loss/G/loss"]["num"] == 5
    assert first["Loss/r1_penalty"]["num"] == 2
    assert first["Loss/G/reg"]["num"] == 2


def test_the_seed_decides_the_run(tmp_path: Path, digits8: ImageData) -> None:
    run(tmp_path / "a", digits8)
    run(tmp_path / "b", digits8)
    run(tmp_path / "c", digits8, replace(OPTIONS, seed=1))
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")


def test_each_discriminator_step_sees_real_images_of_its_own(digits8: ImageData) -> None:
    options = replace(OPTIONS, batch=4, d_steps=3, r1_interval=0, order=("D", "G", "ema"))
    state, seen = tiny_state(options), []
    state.D.register_forward_pre_hook(lambda D, inputs: seen.append(inputs[0].detach()))
    images, labels = next(batches(digits8, images_of(options)))
    train_step(state, make_phases(state, options), options, digits8, images, labels)
    assert len(images) == 12
    assert len(seen) == 2 * 3 + 1  # generated and real images three times, then the generator's
    assert torch.equal(torch.cat(seen[1:6:2]), to_float(images))
    assert state.cur_nimg == 12


def test_regularisation_of_the_discriminator_counts_its_steps(
    digits8: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, batch=4, d_steps=2, r1_interval=3)
    state, taken = tiny_state(options), []
    monkeypatch.setattr(loop, "run_phase", lambda phase, *args: taken.append(phase.name))
    for images, labels in itertools.islice(batches(digits8, images_of(options)), 3):
        train_step(state, make_phases(state, options), options, digits8, images, labels)
    steps = "".join("r" if name == "Dreg" else "m" for name in taken if name[0] == "D")
    assert steps == "mrmmmrmm"


def test_a_snapshot_from_before_there_were_families_goes_on(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", digits8)
    monkeypatch.setattr(checkpoint, "FORMAT", 1)
    save = loop.save_snapshot
    monkeypatch.setattr(
        loop,
        "save_snapshot",
        lambda path, state, config: save(path, {k: v for k, v in state.items() if k != "grown"}, config),
    )
    run(tmp_path / "parts", digits8, stop_after=7)
    monkeypatch.undo()
    parts = run(tmp_path / "parts", digits8, resume=True)
    torch.testing.assert_close(parts.state_dict()["G"], whole.state_dict()["G"], rtol=0, atol=0)


@pytest.mark.parametrize("stop_after", [12, 20], ids=["stopped-within-a-tick", "at-the-end-of-a-tick"])
def test_a_loss_that_is_not_a_number_stops_the_run_before_its_snapshot(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    run(tmp_path, digits8, stop_after=10)
    snapshot = latest_snapshot(tmp_path)
    assert snapshot
    before = snapshot.read_bytes()
    monkeypatch.setattr("gankern.models.training.loop.to_float", lambda x: x.float() * torch.nan)
    with pytest.raises(FloatingPointError, match="phase Dmain"):
        run(tmp_path, digits8, resume=True, stop_after=stop_after)
    assert snapshot.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_asks_the_run_to_stop_and_a_second_interrupt_ends_it(number: int) -> None:
    before = signal.getsignal(signal.SIGINT)  # what runs in the background may ignore it
    with stop_on_signal() as stopped:
        assert not stopped()
        os.kill(os.getpid(), number)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_under_nohup_stays_when_the_terminal_goes() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopped()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_in_a_step_waits_for_the_device(digits8: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError(f"Tensor.{name} in a training step")

        return method

    state = tiny_state()
    images, labels = next(batches(digits8, OPTIONS.batch))
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(torch.Tensor, name, refuse(name))
    train_step(state, make_phases(state, OPTIONS), OPTIONS, digits8, images, labels)
