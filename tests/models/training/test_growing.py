"""Growing: what real images, networks and optimisers become at each stage, and that a resumed run is the same run."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_loop import losses
from tiny import OPTIONS, tiny_state
from tiny_growing import GROWTH, PROGAN, growing_state
from torch import Tensor

from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.data import ImageData, batches, open_data
from gankern.models.training.growing import shrink
from gankern.models.training.loop import images_of, train, train_step
from gankern.models.training.optimiser import forget_moments
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.schedule import stage
from gankern.models.training.state import NETWORKS, TrainingState


@pytest.fixture
def digits16() -> ImageData:
    return open_data("digits:16", cond=True)


def steps_of(state: TrainingState, data: ImageData, options: TrainingOptions = PROGAN) -> Callable[[], None]:
    """A function that takes the next training step."""
    phases, reals = make_phases(state, options), batches(data, images_of(options), options.seed, state.cur_nimg)
    return lambda: train_step(state, phases, options, data, *next(reals))


def train_to(state: TrainingState, data: ImageData, nimg: int, options: TrainingOptions = PROGAN) -> None:
    step = steps_of(state, data, options)
    while state.cur_nimg < nimg:
        step()


def test_real_images_shrink_to_the_current_resolution_by_their_mean() -> None:
    img = torch.rand(3, 1, 16, 16)
    state = growing_state()
    small = shrink(img, state.D, stage(PROGAN, 0))
    torch.testing.assert_close(small, img.reshape(3, 1, 4, 4, 4, 4).mean([3, 5]))
    assert shrink(img, state.D, stage(PROGAN, 10_000)) is img


def test_while_a_resolution_fades_in_real_images_lack_its_details() -> None:
    img = torch.rand(3, 1, 16, 16)
    state, now = growing_state(), stage(PROGAN, 176)
    state.enter(now, PROGAN)
    assert (now.resolution, now.fading) == (16, True)
    half = F.avg_pool2d(img, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(shrink(img, state.D, now), now.alpha * img + (1 - now.alpha) * half)


def test_the_networks_see_the_resolution_of_the_schedule(digits16: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    state, seen = growing_state(), []
    state.D.register_forward_pre_hook(
        lambda D, inputs: seen.append((inputs[0].shape[2], D.fading, round(float(D.alpha), 4)))
    )
    step = steps_of(state, digits16)
    while state.cur_nimg < 240:
        now = stage(PROGAN, state.cur_nimg)
        seen.clear()
        step()
        assert set(seen) == {(now.resolution, now.fading, round(now.alpha, 4))}
        assert state.G_ema.alpha == state.G.alpha == pytest.approx(now.alpha)
        assert len({net.resolution for net in (state.G, state.D, state.G_ema)}) == 1


def parameters(state: TrainingState) -> dict[str, Tensor]:
    return {f"{n}.{k}": p.clone() for n in ("G", "D") for k, p in getattr(state, n).named_parameters()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_layers_at_rest_do_not_move_and_the_others_do(digits16: ImageData) -> None:
    state = growing_state()
    step = steps_of(state, digits16)
    resting = {
        (4, False): {"8", "16"},
        (8, True): {"16"},
        (8, False): {"16", "rgb.4"},
        (16, True): {"rgb.4"},
        (16, False): {"rgb.4", "rgb.8"},
    }
    while state.cur_nimg < 240:
        before = parameters(state)
        step()
        names = {name for name in before for part in resting[state.grown] if f"{part}." in name}
        assert changed(before, parameters(state)) == set(before) - names, state.cur_nimg


def test_the_optimisers_forget_when_a_fade_begins_or_ends_and_only_then(digits16: ImageData) -> None:
    state = growing_state()
    step = steps_of(state, digits16)
    forgotten, grown = [], state.grown
    while state.cur_nimg < 240:
        step()
        steps = {int(entry["step"]) for opt in (state.G_opt, state.D_opt) for entry in opt.state.values()}
        assert len(steps) == 1
        if state.grown != grown:
            assert steps == {1}
            forgotten.append(state.grown)
        grown = state.grown
    assert forgotten == [(8, True), (8, False), (16, True), (16, False)]


def test_forgetting_is_starting_anew_in_the_same_memory(digits16: ImageData) -> None:
    state = growing_state()
    train_to(state, digits16, 32)
    where = [tensor.data_ptr() for entry in state.G_opt.state.values() for tensor in entry.values()]
    forget_moments(state.G_opt)
    assert [tensor.data_ptr() for entry in state.G_opt.state.values() for tensor in entry.values()] == where
    fresh = torch.optim.Adam([p.detach().clone() for p in state.G.parameters()], **state.G_opt.defaults)
    for param, other in zip(state.G.parameters(), fresh.param_groups[0]["params"], strict=True):
        other.grad = param.grad.normal_().clone()
    state.G_opt.step()
    fresh.step()
    for param, other in zip(state.G.parameters(), fresh.param_groups[0]["params"], strict=True):
        assert torch.equal(param, other)


def test_the_learning_rate_is_that_of_the_resolution_for_both_networks(digits16: ImageData) -> None:
    options = replace(PROGAN, lr=0.01, d_lr=0.04)
    state = growing_state(options)
    for nimg, lr in ((0, 0.01), (176, 0.02)):
        state.enter(stage(options, nimg), options)
        assert state.G_opt.param_groups[0]["lr"] == pytest.approx(lr)
        assert state.D_opt.param_groups[0]["lr"] == pytest.approx(4 * lr)


def run(
    run_dir: Path, data: ImageData, options: TrainingOptions, resume: bool = False, stop_at: int = 10**9
) -> TrainingState:
    """Trains from the start or the run's snapshot until its end, or a number of images."""
    run_dir.mkdir(exist_ok=True)
    state = growing_state(options)
    if resume:
        snapshot = latest_snapshot(run_dir)
        assert snapshot
        state.load_state_dict(load_snapshot(snapshot)[0])
    train(state, data, options, run_dir, {}, stop=lambda: state.cur_nimg >= stop_at)
    return state


CUTS = {
    "training-4": 16,
    "within-a-look": 48,
    "right-before-8-fades-in": 64,
    "fading": 80,
    "right-before-8-is-alone": 96,
    "training-8": 128,
    "right-before-16-fades-in": 160,
    "fading-16": 184,
    "grown": 216,
}


VARIANTS: dict[str, dict[str, Any]] = {
    "progan": {},
    "another-order": {"ema_beta": None, "ema_kimg": 0.05, "order": ("G", "D", "ema"), "batch_gpu": 5, "mirror": True},
}


@pytest.fixture(scope="module")
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainingOptions, Path, Any]:
    """An uninterrupted run: its options, its folder and how it ended."""
    options, run_dir = replace(PROGAN, **VARIANTS[request.param]), tmp_path_factory.mktemp("whole")
    state = run(run_dir, open_data("digits:16", cond=True), options)
    return options, run_dir, state.state_dict()


@pytest.mark.parametrize(
    ("whole", "cut"),
    [*(("progan", cut) for cut in CUTS), ("another-order", "fading"), ("another-order", "right-before-16-fades-in")],
    indirect=["whole"],
)
def test_a_run_resumed_anywhere_in_its_growth_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, digits16: ImageData, whole: tuple[TrainingOptions, Path, Any], cut: str
) -> None:
    options, run_dir, expected = whole
    run(tmp_path, digits16, options, stop_at=CUTS[cut])
    torch.manual_seed(99)  # what happens between the sessions must not matter
    found = run(tmp_path, digits16, options, resume=True).state_dict()
    assert losses(tmp_path) == losses(run_dir)
    assert [tick["Progress/resolution"]["mean"] for tick in losses(run_dir)] == [4, 8, 8, 8, 16, 16]
    for name in (*NETWORKS, "rng_cpu", "grown", "cur_nimg"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_the_cuts_are_where_their_names_say() -> None:
    at = {name: stage(PROGAN, nimg) for name, nimg in CUTS.items()}
    before = {name: stage(PROGAN, nimg - (8 if nimg > 160 else 16)) for name, nimg in CUTS.items()}
    where = {name: (before[name].resolution, at[name].resolution, at[name].fading) for name in CUTS}
    assert where == {
        "training-4": (4, 4, False),
        "within-a-look": (4, 4, False),
        "right-before-8-fades-in": (4, 8, True),
        "fading": (8, 8, True),
        "right-before-8-is-alone": (8, 8, False),
        "training-8": (8, 8, False),
        "right-before-16-fades-in": (8, 16, True),
        "fading-16": (16, 16, True),
        "grown": (16, 16, False),
    }
    assert before["right-before-8-is-alone"].fading


def test_a_run_leaves_a_grid_of_every_resolution(tmp_path: Path, digits16: ImageData) -> None:
    run(tmp_path, digits16, PROGAN)
    names = sorted(path.name for path in tmp_path.glob("fakes*.png"))
    assert names == ["fakes000000-16x16.png", "fakes000000-4x4.png", "fakes000000-8x8.png"]


def live_bytes() -> int:
    gc.collect()
    return sum(t.untyped_storage().nbytes() for t in gc.get_objects() if issubclass(type(t), Tensor))


def test_switching_resolutions_leaks_no_memory(digits16: ImageData) -> None:
    state = growing_state()
    step = steps_of(state, digits16)
    step()
    held = []
    for _ in range(5):
        for nimg in (0, 80, 128, 176, 216):  # train, fade, train, fade, train: as often as the loop turns
            state.cur_nimg = nimg
            steps_of(state, digits16)()
            state.stats.values.clear()
        held.append(live_bytes())
    assert held[2:] == held[1:-1]  # in the first round, what earlier tests left may go


def test_growing_with_networks_that_cannot_is_refused() -> None:
    with pytest.raises(ValueError, match="growth needs networks that can grow, got TinyGenerator"):
        tiny_state(replace(OPTIONS, growth=GROWTH))
