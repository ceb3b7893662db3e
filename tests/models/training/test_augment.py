"""Augmentation in training: what D sees, how p adapts, what a snapshot holds."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN, growing_state
from torch import Tensor, nn

from gankern.models.training import augment, objectives
from gankern.models.training.augment import AdaptiveAugmentPipe, adapt_augment, new_augment
from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.data import ImageData, batches, open_data
from gankern.models.training.loop import train, train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.schedule import stage
from gankern.models.training.state import TrainingState
from gankern.nn import AugmentPipe, DiffAugment

CPU = torch.device("cpu")
ADA = dataclasses.replace(OPTIONS, aug="ada", ada_kimg=0.1, ada_interval=2, augpipe="bgcfnc", augment_p=0.3)
KINDS = {
    "ada": ADA,
    "fixed": dataclasses.replace(OPTIONS, aug="fixed", augment_p=0.5),
    "diffaugment": dataclasses.replace(OPTIONS, aug="diffaugment"),
}


def run(
    run_dir: Path, data: ImageData, options: TrainingOptions, resume: bool = False, stop_after: int = 10**9
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
    return [{k: v for k, v in json.loads(line).items() if k.startswith(("Loss", "Progress"))} for line in lines]


def test_each_kind_of_augmentation_is_what_it_is_called() -> None:
    assert new_augment(OPTIONS, CPU) is None
    ada = new_augment(dataclasses.replace(OPTIONS, aug="ada"), CPU)
    assert isinstance(ada, AdaptiveAugmentPipe)
    assert ada.p == 0
    fixed = new_augment(KINDS["fixed"], CPU)
    assert isinstance(fixed, AugmentPipe)
    assert not isinstance(fixed, AdaptiveAugmentPipe)
    assert fixed.p == 0.5
    diff = new_augment(dataclasses.replace(OPTIONS, aug="diffaugment", policy="translation"), CPU)
    assert isinstance(diff, DiffAugment)
    assert diff.policy == "translation"


def scores(positive: int, negative: int) -> Tensor:
    return torch.cat([torch.rand(positive, 1) + 0.1, -torch.rand(negative, 1) - 0.1])


def after(ada: AdaptiveAugmentPipe, *seen: Tensor, sum_over_ranks: Callable[[Tensor], Any] | None = None) -> float:
    """p after an iteration in which these scores were seen, and a change of p at its end."""
    for some in seen:
        ada.observe(some)
    ada.collect(sum_over_ranks)
    ada.adapt(0.6, kimg=0.1)
    return float(ada.p)


def test_p_goes_one_step_by_the_images_seen_in_the_direction_of_the_overfitting() -> None:
    ada = AdaptiveAugmentPipe(xflip=1)
    assert after(ada, scores(7, 1), scores(8, 0)) == pytest.approx(16 / 100)  # r_t = 0.875
    assert after(ada, scores(6, 2)) == pytest.approx(8 / 100)
    assert after(ada, scores(0, 16)) == 0
    assert after(ada) == 0
    assert [after(ada, scores(50, 0)) for _ in range(3)][-1] == pytest.approx(1.5)  # no upper limit, as published


def test_every_rank_takes_the_same_step() -> None:
    ada = AdaptiveAugmentPipe(xflip=1)
    others = torch.tensor([-16.0, 24.0])
    assert after(ada, scores(8, 0), sum_over_ranks=lambda signs: signs.add_(others)) == 0
    others = torch.tensor([24.0, 24.0])
    assert after(ada, scores(4, 4), sum_over_ranks=lambda signs: signs.add_(others)) == pytest.approx(32 / 100)


def test_signs_are_summed_over_the_processes_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "sum_", lambda signs: signs.copy_(torch.tensor([0.0, 40.0])))
    state = tiny_state(ADA)
    state.augment.observe(scores(8, 0))
    adapt_augment(state, ADA, stage(ADA, ADA.batch))
    assert state.augment.p == pytest.approx(0)  # 0.3, less 40 images of 100


def test_p_settles_where_the_overfitting_is_at_its_target() -> None:
    """A discriminator that knows real images by heart unless they are augmented: r_t = 1 - p."""
    ada = AdaptiveAugmentPipe(xflip=1)
    path = []
    for _ in range(400):
        for _ in range(4):
            ada.observe((torch.rand(16) < 1 - ada.p / 2).float() * 2 - 1)
            ada.collect()
        ada.adapt(0.6, kimg=5)
        path.append(float(ada.p))
    assert path[20] < 0.3
    assert all(abs(p - 0.4) < 0.1 for p in path[100:])


def test_p_changes_after_every_interval_of_iterations() -> None:
    state = tiny_state(ADA)
    moved = []
    for iteration in range(6):
        state.augment.observe(scores(8, 0))
        before = float(state.augment.p)
        adapt_augment(state, ADA, stage(ADA, iteration * ADA.batch))
        moved.append(float(state.augment.p) != before)
    assert moved == [False, True] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_real_and_generated_images_are_augmented_and_labels_are_not(kind: str) -> None:
    state, seen = tiny_state(KINDS[kind]), []
    state.D.register_forward_pre_hook(lambda D, inputs: seen.append(inputs))
    img, c = torch.rand(8, 1, 8, 8), torch.eye(10)[:8]
    objectives.discriminate(state, img, c)
    assert not torch.equal(seen[0][0], img)
    assert seen[0][0].shape == img.shape
    assert seen[0][1] is c
    state = tiny_state()
    state.D.register_forward_pre_hook(lambda D, inputs: seen.append(inputs))
    objectives.discriminate(state, img, c)
    assert seen[1][0] is img


class Counting(nn.Module):
    """Notes what it is given, and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, img: Tensor) -> Tensor:
        self.seen.append(len(img))
        return img


def test_every_phase_shows_d_augmented_images_only(digits8: ImageData) -> None:
    state, shown = tiny_state(), []
    state.augment = Counting()
    state.D.register_forward_pre_hook(lambda D, inputs: shown.append(len(inputs[0])))
    phases = make_phases(state, OPTIONS)
    images = batches(digits8, OPTIONS.batch)
    for _ in range(4):  # all phases are due in the first
        train_step(state, phases, OPTIONS, digits8, *next(images))
    assert state.augment.seen == shown
    assert len(shown) == 4 * 3 + 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_after", [7, 10])
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path: Path, digits8: ImageData, kind: str, stop_after: int) -> None:
    whole = run(tmp_path / "whole", digits8, KINDS[kind])
    run(tmp_path / "parts", digits8, KINDS[kind], stop_after=stop_after)
    torch.manual_seed(99)
    parts = run(tmp_path / "parts", digits8, KINDS[kind], resume=True)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    torch.testing.assert_close(parts.state_dict(), whole.state_dict(), rtol=0, atol=0)
    lines = losses(tmp_path / "whole")
    assert all(("Progress/augment" in line) == (kind != "diffaugment") for line in lines)
    if kind == "ada":
        assert lines[0]["Progress/augment"]["mean"] != lines[-1]["Progress/augment"]["mean"]


def test_a_snapshot_holds_p_and_the_signs_counted_since_it_changed(tmp_path: Path, digits8: ImageData) -> None:
    state = run(tmp_path, digits8, ADA, stop_after=7)
    snapshot = latest_snapshot(tmp_path)
    assert snapshot
    saved = load_snapshot(snapshot)[0]["augment"]
    assert set(saved) == {"p", "Hz_geom", "Hz_fbank", "signs"}
    assert saved["p"] == state.augment.p
    assert saved["signs"][1] == 8  # the seventh iteration's batch


def test_snapshots_from_before_there_was_augmentation_still_load() -> None:
    state = tiny_state()
    old = state.state_dict()
    del old["augment"]
    state.load_state_dict(old)
    assert TrainingOptions.from_json({k: v for k, v in dataclasses.asdict(OPTIONS).items() if k != "aug"}) == OPTIONS


@pytest.mark.parametrize("kind", ["ada", "diffaugment"])
def test_growing_networks_are_augmented_at_their_resolution(tmp_path: Path, kind: str) -> None:
    changes = {name: getattr(KINDS[kind], name) for name in ("aug", "augment_p", "augpipe", "ada_kimg")}
    options = dataclasses.replace(PROGAN, **changes)
    state = growing_state(options)
    sizes: list[int] = []
    state.augment.register_forward_pre_hook(lambda augment, inputs: sizes.append(inputs[0].shape[2]))
    train(state, open_data("digits:16", cond=True), options, tmp_path, {})
    assert list(dict.fromkeys(sizes)) == [4, 8, 16]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"aug": "bcr"}, "aug must be one of noaug, ada, fixed, diffaugment, got bcr"),
        ({"augpipe": "bgx"}, "augpipe must be one of blit, .* got bgx"),
        ({"aug": "fixed"}, r"augment_p \(--p\) must be positive with aug = fixed, got 0"),
        ({"aug": "fixed", "augment_p": 1.5}, r"augment_p must be in \[0, 1\], got 1.5"),
        ({"ada_kimg": 0.0}, "ada_kimg must be positive, got 0"),
        ({"ada_target": 1.0}, "ada_target must be between -1 and 1, got 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(OPTIONS, **changes)


def test_options_survive_json() -> None:
    assert TrainingOptions.from_json(json.loads(json.dumps(dataclasses.asdict(ADA)))) == ADA
