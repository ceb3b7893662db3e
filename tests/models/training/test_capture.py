"""Phases as CUDA graphs. Without a GPU a recorder that plays one: it keeps what it is given and runs it again."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_families import small_state
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN, growing_state
from torch.fx.experimental.proxy_tensor import make_fx

from gankern.models import cli
from gankern.models.training.capture import WARMUP, CapturedPhases, capture_phases
from gankern.models.training.checkpoint import load_snapshot, save_snapshot
from gankern.models.training.data import ImageData, batches, open_data
from gankern.models.training.loop import images_of, train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import NETWORKS, TrainingState


class Recorder:
    """Plays CUDA's part: what is captured does not run until it is replayed."""

    def __init__(self) -> None:
        self.warmed, self.captured, self.replayed = 0, 0, 0

    def warm_up(self, step: Callable[[], None]) -> None:
        self.warmed += 1
        step()

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            self.replayed += 1
            step()

        return replay


class Freezing(Recorder):
    """Keeps a step's operations on tensors, with all that the host decided fixed in them, as a CUDA graph does."""

    def __init__(self, state: TrainingState) -> None:
        super().__init__()
        self.state = state

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1
        restore = remembered(self.state)
        traced = make_fx(step)()
        restore()

        def replay() -> None:
            self.replayed += 1
            with torch.no_grad():
                traced()

        return replay


def remembered(state: TrainingState) -> Callable[[], None]:
    """What puts everything back that a step changes, in place."""
    tensors = [tensor for net in (state.G, state.D) for tensor in (*net.parameters(), *net.buffers())]
    tensors += [tensor for opt in (state.G_opt, state.D_opt) for own in opt.state.values() for tensor in own.values()]
    tensors += [state.pl_mean, state.G_gradients, state.D_gradients]
    values, random = [tensor.detach().clone() for tensor in tensors], torch.get_rng_state()

    def restore() -> None:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(random)

    return restore


class Refusing(Recorder):
    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


# Powers of two, and intervals whose k / (k + 1) is a short binary number: as float32 the rates are the same.
EXACT = replace(OPTIONS, lr=2**-7, r1_interval=3, pl_interval=3)
GROWING = replace(PROGAN, lr=2**-7, d_lr=2**-7, growth=replace(PROGAN.growth, lr={16: 2**-6}))  # type: ignore[type-var]
# 4x4 for 6 steps, then 8x8 fading in, whose weight and learning rate change while its graph is replayed.
LONG = replace(GROWING, growth=replace(GROWING.growth, train_kimg=0.048, fade_kimg=0.256, batch={}, lr={8: 2**-6}))


def train(state: TrainingState, options: TrainingOptions, data: ImageData, steps: int) -> list[dict[Any, list[float]]]:
    """Some steps, and the statistics of each."""
    found = []
    phases = make_phases(state, options)
    for images, labels in itertools.islice(batches(data, images_of(options), start=state.cur_nimg), steps):
        train_step(state, phases, options, data, images, labels)
        found.append(state.stats.read())
        state.stats.values = {}
    return found


def assert_same(a: TrainingState, b: TrainingState) -> None:
    one, other = a.state_dict(), b.state_dict()
    for name in (*NETWORKS, "pl_mean", "rng_cpu"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "options", "resolution"), [(tiny_state, EXACT, 8), (growing_state, GROWING, 16)], ids=["fixed", "growing"]
)
def test_replayed_steps_are_the_steps(
    make: Callable[[TrainingOptions], TrainingState], options: TrainingOptions, resolution: int
) -> None:
    data = open_data(f"digits:{resolution}", cond=True)
    eager, captured, recorder = make(options), make(options), Recorder()
    capture_phases(captured, recorder)
    torch.manual_seed(7)
    wanted = train(eager, options, data, 16)
    torch.manual_seed(7)
    assert train(captured, options, data, 16) == wanted
    assert_same(eager, captured)
    assert recorder.replayed >= 6
    assert all({"Gmain", "Dmain"} <= {phase for phase, _ in values} for values in wanted)


@pytest.mark.parametrize(
    ("make", "options", "resolution"), [(tiny_state, EXACT, 8), (growing_state, LONG, 16)], ids=["fixed", "growing"]
)
def test_nothing_that_changes_from_step_to_step_is_decided_by_the_host(
    make: Callable[[TrainingOptions], TrainingState], options: TrainingOptions, resolution: int
) -> None:
    data = open_data(f"digits:{resolution}", cond=True)
    eager, captured = make(options), make(options)
    recorder = Freezing(captured)
    capture_phases(captured, recorder)
    torch.manual_seed(7)
    wanted = train(eager, options, data, 14)
    torch.manual_seed(7)
    found = train(captured, options, data, 14)
    assert recorder.replayed >= 10
    for a, b in zip(wanted, found, strict=True):
        assert a.keys() == b.keys()
        assert all(b[key] == pytest.approx(a[key], rel=1e-4, abs=1e-6) for key in a)
    for name in ("G", "D", "G_ema", "pl_mean", "rng_cpu"):
        torch.testing.assert_close(captured.state_dict()[name], eager.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_each_phase_warms_up_is_captured_once_and_then_only_replayed(digits8: ImageData) -> None:
    state, recorder = tiny_state(EXACT), Recorder()
    capture_phases(state, recorder)
    train(state, EXACT, digits8, 12)  # 12 steps of the main phases, 4 of each regularisation
    assert (recorder.warmed, recorder.captured) == (4 * WARMUP, 4)
    assert recorder.replayed == 2 * (12 - WARMUP) + 2 * (4 - WARMUP)


def test_growing_drops_the_graphs_of_the_stage_before() -> None:
    options, data = GROWING, open_data("digits:16", cond=True)
    state, recorder = growing_state(options), Recorder()
    capture_phases(state, recorder)
    held, grown = [], set()
    for _ in range(14):
        train(state, options, data, 1)
        held.append(len(state.captured.recordings))
        grown.add(state.grown)
    assert len(grown) >= 4
    assert max(held) == 2


def test_a_change_of_the_batch_is_captured_anew_and_the_learning_rate_is_not(digits8: ImageData) -> None:
    state, recorder = tiny_state(EXACT), Recorder()
    capture_phases(state, recorder)
    train(state, EXACT, digits8, 5)
    before = recorder.captured
    lr = state.G_opt.param_groups[0]["lr"]
    assert isinstance(lr, torch.Tensor)
    for group in state.G_opt.param_groups:
        group["lr"].fill_(0.0)
    weights = copy.deepcopy(state.G.state_dict())
    train(state, EXACT, digits8, 1)
    assert recorder.captured == before
    assert all(torch.equal(dict(state.G.named_parameters())[k], weights[k]) for k, _ in state.G.named_parameters())
    train(state, replace(EXACT, batch_gpu=4), digits8, WARMUP + 1)
    assert recorder.captured > before


def test_a_phase_that_cannot_be_captured_goes_on_and_the_reason_is_printed_once(
    digits8: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    eager, refused = tiny_state(EXACT), tiny_state(EXACT)
    capture_phases(refused, Refusing())
    torch.manual_seed(7)
    wanted = train(eager, EXACT, digits8, 8)
    torch.manual_seed(7)
    assert train(refused, EXACT, digits8, 8) == wanted
    assert_same(eager, refused)
    printed = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[3] for line in printed) == ["Dmain", "Gmain"]
    assert all(line.endswith("operation not permitted when stream is capturing") for line in printed)


def test_a_snapshot_of_captured_phases_loads_with_and_without_graphs(tmp_path: Path, digits8: ImageData) -> None:
    state = tiny_state(EXACT)
    capture_phases(state, Recorder())
    train(state, EXACT, digits8, 6)
    save_snapshot(tmp_path / "a.pt", state.state_dict(), {})
    plain, captured = tiny_state(EXACT), tiny_state(EXACT)
    capture_phases(captured, Recorder())
    train(captured, EXACT, digits8, 6)
    for resumed in (plain, captured):
        resumed.load_state_dict(load_snapshot(tmp_path / "a.pt")[0])
        assert_same(resumed, state)
    assert type(plain.G_opt.param_groups[0]["lr"]) is float
    assert not captured.captured.recordings
    wanted = train(plain, EXACT, digits8, 6)
    torch.set_rng_state(state.state_dict()["rng_cpu"])
    captured.load_state_dict(load_snapshot(tmp_path / "a.pt")[0])
    assert train(captured, EXACT, digits8, 6) == wanted


def test_a_capture_records_no_statistics_of_its_own(digits8: ImageData) -> None:
    state = tiny_state(EXACT)

    def failing(*args: Any) -> None:
        raise FloatingPointError("within the step")

    state.captured = CapturedPhases(Recorder(), failing)
    stats = state.stats
    with pytest.raises(FloatingPointError):
        train(state, EXACT, digits8, 1)
    assert state.stats is stats


def test_the_command_says_so_where_there_is_no_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.008", "--batch", "8", "--fp32", "--cbase", "32"]
    assert cli.main(["train", *args, "--cuda-graphs", "auto", "--outdir", str(tmp_path)]) == 0
    assert "CUDA graphs: off, they need a GPU" in capsys.readouterr().out


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(ValueError, match="CUDA graphs need a GPU, got cpu"):
        capture_phases(tiny_state())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("cfg", ["auto", "progan", "stylegan", "biggan-digits", "sagan128"])
def test_graphs_of_a_gpu_compute_what_the_steps_do(cfg: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = open_data("digits:16", cond=False)
    runs = []
    for capture in (False, True):
        state, options = small_state(cfg, growing=True, device="cuda", c_dim=0)
        if capture:
            capture_phases(state)
        torch.manual_seed(7)
        values = train(state, options, data, 24)
        runs.append([values[k]["Dmain", "Loss/D/loss"][0] for k in range(24)])
    assert "cannot be captured" not in capsys.readouterr().out
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-2, atol=1e-3)
