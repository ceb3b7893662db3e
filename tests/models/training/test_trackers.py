"""TensorBoard, and Weights & Biases by a stand-in."""

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gankern.models.training.png import write_png
from gankern.models.training.trackers import TensorBoard, add_tracker_options, open_trackers


def options(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_tracker_options(parser)
    return parser.parse_args(given)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "fakes000004.png"
    write_png(path, np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    return path


def events(run_dir: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run_dir))
    found.Reload()
    return found


def test_tensorboard_has_scalars_and_pictures_over_images(tmp_path: Path, picture: Path) -> None:
    pytest.importorskip("tensorboard")
    (tracker,) = open_trackers(options(), tmp_path, 0, {})
    tracker.scalars(4000, {"Loss/G/loss": 0.5, "Progress/kimg": 4.0})
    tracker.picture(4000, "fakes", picture)
    tracker.close()
    found = events(tmp_path)
    assert [(event.step, event.value) for event in found.Scalars("Loss/G/loss")] == [(4000, 0.5)]
    (image,) = found.Images("fakes")
    assert (image.step, image.width, image.height) == (4000, 4, 4)


def test_tensorboard_hides_what_a_resumed_run_wrote_after_its_snapshot(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    before = TensorBoard(tmp_path, 0)
    for nimg in (1000, 2000, 3000):
        before.scalars(nimg, {"Loss/G/loss": 1.0})
    before.close()
    after = TensorBoard(tmp_path, 2000)
    after.scalars(3000, {"Loss/G/loss": 2.0})
    after.close()
    found = [(event.step, event.value) for event in events(tmp_path).Scalars("Loss/G/loss")]
    assert found == [(1000, 1.0), (2000, 1.0), (3000, 2.0)]


def test_tensorboard_can_be_left_out(tmp_path: Path) -> None:
    assert open_trackers(options("--tensorboard", "0"), tmp_path, 0, {}) == []
    assert list(tmp_path.iterdir()) == []


def test_without_tensorboard_there_are_no_events_and_no_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert open_trackers(options(), tmp_path, 0, {}) == []
    assert capsys.readouterr().out == ""


class StandIn(types.ModuleType):
    """The part of wandb that is used; keeps every call."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []

    def init(self, **given: Any) -> Any:
        self.calls.append(("init", given))
        return types.SimpleNamespace(
            id=given["id"] or "abc123",
            define_metric=lambda *args, **kwargs: self.calls.append(("define_metric", (args, kwargs))),
            log=lambda values: self.calls.append(("log", values)),
            finish=lambda: self.calls.append(("finish", None)),
        )

    def Image(self, path: str) -> str:
        return f"image {Path(path).name}"


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    return stand_in


def test_wandb_is_told_everything_over_kimg(tmp_path: Path, wandb: StandIn, picture: Path) -> None:
    (tracker,) = open_trackers(options("--tensorboard", "0", "--wandb", "gans"), tmp_path, 0, {"preset": "digits"})
    tracker.scalars(4000, {"Loss/G/loss": 0.5})
    tracker.picture(4000, "fakes", picture)
    tracker.close()
    kinds = [kind for kind, _ in wandb.calls]
    assert kinds == ["init", "define_metric", "log", "log", "finish"]
    given = wandb.calls[0][1]
    assert (given["project"], given["name"], given["config"]) == ("gans", tmp_path.name, {"preset": "digits"})
    assert "mode" not in given  # WANDB_MODE=offline is the user's to set
    assert wandb.calls[1][1] == (("*",), {"step_metric": "Progress/kimg"})
    assert wandb.calls[2][1] == {"Loss/G/loss": 0.5, "Progress/kimg": 4.0}
    assert wandb.calls[3][1] == {"fakes": "image fakes000004.png", "Progress/kimg": 4.0}


def test_a_resumed_run_is_the_same_run_there(tmp_path: Path, wandb: StandIn) -> None:
    for nimg in (0, 4000):
        open_trackers(options("--tensorboard", "0", "--wandb", "gans"), tmp_path, nimg, {})
    ids = [given["id"] for kind, given in wandb.calls if kind == "init"]
    assert ids == [None, "abc123"]


def test_a_tracker_that_cannot_start_is_left_out_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    assert open_trackers(options("--tensorboard", "0", "--wandb", "gans"), tmp_path, 0, {}) == []
    assert "goes on without W&B (ModuleNotFoundError" in capsys.readouterr().out
