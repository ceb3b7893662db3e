"""No phase of any family waits for the device, so that each can be captured as a CUDA graph."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from capture_lint import CaptureLint
from small_families import FAMILY_CONFIGURATIONS, inputs, small_state
from torch import Tensor

import gankern
from gankern.models.training.losses import LOSSES, RELATIVISTIC_LOSSES
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.schedule import stage
from gankern.models.training.state import TrainingState


def lint(state: TrainingState, options: TrainingOptions, resolution: int = 16) -> dict[str, list[str]]:
    """What each phase does, and the average's update, that a graph could not."""
    found = {}
    batch = inputs(state, resolution)
    for phase in make_phases(state, options):
        run_phase(phase, state, options, batch)  # the optimiser makes its state in its first step
        with CaptureLint() as mode:
            run_phase(phase, state, options, batch, batch_gpu=2)
        found[phase.name] = mode.found
    beta = torch.tensor(0.5)
    with CaptureLint() as mode:
        gankern.ema_update(state.G_ema, state.G, beta, buffers=options.ema_buffers)
    found["ema"] = mode.found
    return found


@pytest.mark.parametrize("forced", [None, "eager"], ids=["default", "eager"])
@pytest.mark.parametrize("cfg", FAMILY_CONFIGURATIONS)
def test_every_phase_of_every_family_can_be_captured(cfg: str, forced: str | None) -> None:
    state, options = small_state(cfg)
    with gankern.use_backend(forced) if forced else nullcontext():
        found = lint(state, options)
    assert not any(found.values()), found
    assert {"Gmain", "Dmain", "ema"} <= found.keys()
    if options.pl_weight:
        assert {"Greg", "Dreg"} <= found.keys()


@pytest.mark.parametrize("cfg", ["progan", "stylegan"])
@pytest.mark.parametrize("fading", [False, True], ids=["grown", "fading"])
def test_networks_that_grow_can_be_captured_at_every_stage(cfg: str, fading: bool) -> None:
    state, options = small_state(cfg, growing=True)
    now = next(
        now
        for now in (stage(options, nimg) for nimg in range(0, round(options.kimg * 1000), 4))
        if now.resolution == 8 + 8 * fading and now.fading == fading
    )
    state.enter(now, options)
    with CaptureLint() as mode:
        state.enter(now._replace(alpha=now.alpha / 2), options)
    assert not mode.found
    assert not any(found := lint(state, options, now.resolution or 0).values()), found


@pytest.mark.parametrize("cfg", ["auto", "biggan-digits"])
@pytest.mark.parametrize("loss", [*LOSSES, *RELATIVISTIC_LOSSES])
def test_every_loss_and_penalty_can_be_captured(cfg: str, loss: str) -> None:
    state, options = small_state(
        cfg, loss=loss, gp_weight=10.0, drift_weight=0.001, r1_gamma=1.0, r2_gamma=1.0, r1_interval=1
    )
    assert not any(found := lint(state, options).values()), found
    lazy = replace(options, r1_interval=2, d_clip=0.0 if cfg.startswith("biggan") else 0.01, ortho_strength=1e-4)
    assert not any(found := lint(state, lazy).values()), found


def _item(x: Tensor) -> float:
    return float(x.sum())


@pytest.mark.parametrize(
    "synchronises",
    [
        _item,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: bool((x > 0).any()),
        lambda x: torch.tensor(1.0),
        lambda x: torch.randperm(3),
        lambda x: x.unique(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
    ],
)
def test_the_lint_finds_what_synchronises(synchronises: Callable[[Tensor], Any]) -> None:
    x = torch.randn(4)
    with CaptureLint() as mode:
        synchronises(x)
    assert mode.found


def test_the_lint_lets_pass_what_stays_on_the_device() -> None:
    x = torch.randn(4, 3)
    x.grad = torch.ones_like(x)
    with CaptureLint() as mode:
        torch.where(x > 0, x, -x).mean().add_(1).clamp_(0, 1)
        x[torch.arange(2)].nan_to_num_(0, 1, -1)
        torch.nn.utils.clip_grad_norm_([x], 1.0)
    assert mode.found == []
