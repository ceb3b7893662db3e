"""What goes wrong within a run: numbers that are not finite, data that cannot be read, memory, clocks."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_full_disk import Capture, final
from test_loop import losses, run
from tiny import OFTEN, OPTIONS, tiny_state
from torch import Tensor

from gankern.models.training import loop
from gankern.models.training.checkpoint import load_snapshot, save_snapshot, snapshots
from gankern.models.training.data import ImageArray, ImageData
from gankern.models.training.options import TrainingOptions
from gankern.models.training.state import TrainingState

TICK = round(OPTIONS.tick_kimg * 1000)
STEPS = round(OPTIONS.kimg * 1000) // OPTIONS.batch  # of a run
PLACES = ("data", "loss", "weight", "average")  # where a number that is not finite is put


class Poison:
    """Puts `value` into one place of a run, within its step number `step` or, if `again`, in that step of each try."""

    def __init__(self, place: str, step: int, value: float, again: bool = False):
        self.place, self.step, self.value, self.again = place, step, value, again
        self.done = 0
        self.train_step = loop.train_step
        self.to_float = loop.to_float

    def __call__(self, state: TrainingState, *args: Any) -> None:
        now = state.cur_nimg == self.step * OPTIONS.batch and (self.again or not self.done)
        self.done += now
        with pytest.MonkeyPatch.context() as patched:
            if now and self.place == "data":
                patched.setattr(loop, "to_float", lambda x: self.poisoned(self.to_float(x)))
            if now and self.place == "loss":
                patched.setattr(state.D.out, "forward", lambda x: torch.full([len(x), 1], self.value) + 0 * x[:, :1])
            hook = self._hook(state) if now and self.place == "gradient" else None
            self.train_step(state, *args)
            if hook:
                hook.remove()
        if now and self.place in ("weight", "average"):
            net = state.G if self.place == "weight" else state.G_ema
            self.poisoned(net.synthesis.conv.weight.data)

    def poisoned(self, x: Tensor) -> Tensor:
        x.view(-1)[0] = self.value
        return x

    def _hook(self, state: TrainingState) -> Any:
        """Poisons a gradient where it is made, before it is added up."""
        return state.G.synthesis.conv.weight.requires_grad_().register_hook(lambda grad: self.poisoned(grad.clone()))


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Poison]:
    def inject(*args: Any, **kwargs: Any) -> Poison:
        poison = Poison(*args, **kwargs)
        monkeypatch.setattr(loop, "train_step", poison)
        return poison

    return inject


def all_finite(run_dir: Path) -> bool:
    """Whether every number in every snapshot is finite."""

    def finite(value: Any) -> bool:
        if isinstance(value, Tensor):
            return bool(torch.isfinite(value).all())
        if isinstance(value, dict | list | tuple):
            return all(finite(item) for item in (value.values() if isinstance(value, dict) else value))
        return not isinstance(value, float) or math.isfinite(value)

    return all(finite(load_snapshot(path)[0]) for path in snapshots(run_dir))


def injections() -> Iterator[tuple[str, int, float]]:
    """Every place, with NaN and infinity, in steps before, at and after the end of a tick."""
    for place in PLACES:
        for step in (9, 12, STEPS - 1):
            for value in (math.nan, math.inf):
                if (place, value) != ("data", math.inf):  # an infinite pixel is a NaN by the first layer
                    yield place, step, value


@pytest.mark.parametrize(("place", "step", "value"), list(injections()))
def test_a_number_that_is_not_finite_is_seen_within_a_tick_and_in_no_snapshot(
    tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison], place: str, step: int, value: float
) -> None:
    injected = poison(place, step, value)
    tmp_path.joinpath("run").mkdir()
    state = tiny_state(OFTEN)
    with pytest.raises(FloatingPointError, match=r"NaN or infinit|a NaN or an infinity"):
        loop.train(state, digits8, OFTEN, tmp_path / "run", {})
    assert injected.done == 1
    assert state.cur_nimg - step * OPTIONS.batch <= TICK
    assert load_snapshot(snapshots(tmp_path / "run")[0])[0]["cur_nimg"] == step * OPTIONS.batch // TICK * TICK
    assert all_finite(tmp_path / "run")


@pytest.mark.parametrize("place", PLACES)
def test_a_run_rolls_back_to_before_it_and_goes_on_another_way(
    tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison], capsys: Capture, place: str
) -> None:
    options = replace(OFTEN, on_nan="rollback")
    poison(place, 12, math.nan)
    state = run(tmp_path / "run", digits8, options)
    assert (state.cur_nimg, state.rollbacks) == (160, 1)
    assert (
        "going on from network-snapshot-000000.pt with other random numbers (rollback 1 of 3)"
        in capsys.readouterr().err
    )
    assert [tick["Progress/kimg"]["mean"] for tick in losses(tmp_path / "run")] == [0.04, 0.08, 0.12, 0.16]
    assert all_finite(tmp_path / "run")


def test_a_run_that_rolled_back_and_is_interrupted_goes_on_bit_for_bit(
    tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OFTEN, on_nan="rollback")
    poison("weight", 7, math.nan)
    run(tmp_path / "whole", digits8, options)
    poison("weight", 7, math.nan)
    run(tmp_path / "parts", digits8, options, stop_after=12)
    monkeypatch.undo()
    assert run(tmp_path / "parts", digits8, options, resume=True).rollbacks == 1
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert final(tmp_path / "parts") == final(tmp_path / "whole")


def test_the_fourth_time_is_the_end(tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison]) -> None:
    injected = poison("weight", 12, math.nan, again=True)
    with pytest.raises(FloatingPointError, match="also after 3 rollbacks"):
        run(tmp_path / "run", digits8, replace(OFTEN, on_nan="rollback"))
    assert injected.done == 4


def test_there_is_no_way_back_before_the_first_snapshot(
    tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison]
) -> None:
    poison("loss", 2, math.nan)
    with pytest.raises(FloatingPointError, match="before the first snapshot"):
        run(tmp_path / "run", digits8, replace(OFTEN, on_nan="rollback"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_left_out_and_said(
    tmp_path: Path, digits8: ImageData, poison: Callable[..., Poison], capsys: Capture, value: float
) -> None:
    poison("gradient", 7, value)
    state = run(tmp_path / "run", digits8, OFTEN)
    assert state.cur_nimg == 160
    assert "in 1 of 5 steps of phase Gmain gradients were NaN or infinite and were left out" in capsys.readouterr().err
    assert losses(tmp_path / "run")[1]["Gradients/finite/Gmain"]["mean"] == 0.8
    assert all_finite(tmp_path / "run")


class Unreadable(ImageArray):
    """The digits, until image number `bad` of the data set is asked for the second time."""

    in_memory = False

    def __init__(self, digits: ImageData, fail: Callable[[], None]):
        super().__init__("digits", digits.read(np.arange(len(digits))), digits.labels)
        self.fail = fail
        self.read_before = 0

    def read(self, indices: np.ndarray) -> Tensor:
        self.read_before += 1
        if self.read_before > 12:
            self.fail()
        return super().read(indices)

    def __getitem__(self, index: int) -> Tensor:
        self.read_before += 1
        if self.read_before > 12 * OPTIONS.batch:
            self.fail()
        return super().__getitem__(index)


def vanished() -> None:
    raise FileNotFoundError(2, "No such file or directory", "images/img7.png")


def damaged() -> None:
    raise ValueError("data: cannot read images/img7.png (broken PNG)")


def killed() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("fail", "workers", "words"),
    [
        (vanished, 0, "img7.png"),
        (damaged, 0, "broken PNG"),
        (damaged, 1, "broken PNG"),
        (killed, 1, "worker"),
        (pytest.param(lambda: torch.empty(1 << 58), 0, "memory", id="no-memory-for-a-batch")),
    ],
)
def test_data_that_cannot_be_read_ends_a_run_with_a_snapshot_of_what_was_learnt_before(
    tmp_path: Path, digits8: ImageData, whole: Path, fail: Callable[[], Any], workers: int, words: str
) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with pytest.raises(ValueError, match=rf"^training: the data cannot be read \(.*{words}.*\)$"):
        loop.train(tiny_state(OFTEN), Unreadable(digits8, fail), OFTEN, run_dir, {}, workers)
    assert load_snapshot(snapshots(run_dir)[0])[0]["cur_nimg"] > 0
    run(run_dir, digits8, OFTEN, resume=True)
    assert losses(run_dir) == losses(whole)
    assert final(run_dir) == final(whole)


def cpu() -> None:
    torch.empty(1 << 58)


def gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def python() -> None:
    raise MemoryError


@pytest.mark.parametrize("fail", [cpu, gpu, python])
@pytest.mark.parametrize(
    ("batch_gpu", "advice"), [(None, "--batch-gpu 4"), (4, "--batch-gpu 2"), (1, "--precision bf16")]
)
def test_a_lack_of_memory_names_the_phase_and_the_next_smaller_setting(
    tmp_path: Path,
    digits8: ImageData,
    monkeypatch: pytest.MonkeyPatch,
    fail: Callable[[], None],
    batch_gpu: int | None,
    advice: str,
) -> None:
    options = replace(OFTEN, batch_gpu=batch_gpu)
    run(tmp_path, digits8, options, stop_after=7)
    before = final(tmp_path)
    monkeypatch.setattr("gankern.models.training.objectives.r1_penalty", lambda *args: fail())
    at_once = batch_gpu or 8
    with pytest.raises(MemoryError, match=rf"phase Dreg, with {at_once} of 8 images at once at 8x8 .* try {advice}"):
        run(tmp_path, digits8, options, resume=True)
    assert final(tmp_path) == before


def test_other_errors_of_a_step_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("gankern.models.training.objectives.r1_penalty", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(tmp_path / "run", digits8, OFTEN)


@pytest.mark.parametrize("clock", ["stands still", "jumps ahead"])
def test_a_clock_that_errs_makes_no_number_negative_or_infinite(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch, clock: str, capsys: Capture
) -> None:
    now = [1e9]

    def read() -> float:
        now[0] += 1e7 if clock == "jumps ahead" else 0.0
        return now[0]

    def backwards() -> float:  # the time of day, which somebody may set
        now.append(now[-1] - 3600)
        return now[-1]

    with monkeypatch.context() as patched:
        patched.setattr(time, "perf_counter", read)
        patched.setattr(time, "time", backwards)
        run(tmp_path / "run", digits8, OFTEN)
    for line in (tmp_path / "run" / "stats.jsonl").read_text().splitlines():
        assert "NaN" not in line
        assert "Infinity" not in line
    assert " -" not in capsys.readouterr().err.replace("G -", "").replace("D -", "")


def test_a_snapshot_with_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"G_ema\.layer\.weight holds a NaN"):
        save_snapshot(tmp_path / "s.pt", {"G_ema": {"layer.weight": torch.tensor([0.0, math.nan])}}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("keep", 0), ("on_nan", "ignore")])
def test_wrong_options_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must"):
        replace(OPTIONS, **{name: value})


def test_the_newest_snapshots_are_kept_once_the_last_one_is_whole(
    tmp_path: Path, digits8: ImageData, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    options: TrainingOptions = replace(OPTIONS, keep=2, snap=1)
    names = iter(range(100))
    monkeypatch.setattr(loop, "snapshot_path", lambda run_dir, nimg: run_dir / f"network-snapshot-{next(names):06d}.pt")
    run(tmp_path, digits8, options)
    assert [path.name for path in snapshots(tmp_path)] == ["network-snapshot-000003.pt", "network-snapshot-000002.pt"]

    def truncated(path: Path, *args: Any) -> None:
        path.write_bytes(b"PK")

    monkeypatch.setattr(loop, "save_snapshot", truncated)
    loop.write_snapshot(tmp_path, tiny_state(), options, {})
    assert "no older snapshot is deleted; going on" in capsys.readouterr().err
    assert len(snapshots(tmp_path)) == 3
