"""One step of each phase."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import OPTIONS, tiny_state

from gankern.models.training.phases import Batch, Phase, make_phases, run_phase
from gankern.models.training.state import TrainingState


def batch() -> Batch:
    torch.manual_seed(2)
    c = torch.eye(10)[torch.randint(10, (16,))]
    return Batch(torch.rand(8, 1, 8, 8) * 2 - 1, c[:8], torch.randn(8, 4), c[8:])


def phase(state: TrainingState, name: str) -> Phase:
    return next(phase for phase in make_phases(state, OPTIONS) if phase.name == name)


def test_phases_come_in_the_published_order_with_their_intervals() -> None:
    phases = make_phases(tiny_state(), OPTIONS)
    assert [(p.name, p.interval) for p in phases] == [("Gmain", 1), ("Greg", 3), ("Dmain", 1), ("Dreg", 4)]


@pytest.mark.parametrize("off", [{"pl_weight": 0.0}, {"pl_interval": 0}])
def test_a_regularisation_without_weight_or_interval_has_no_phase(off: dict[str, float]) -> None:
    assert [p.name for p in make_phases(tiny_state(), replace(OPTIONS, **off))] == ["Gmain", "Dmain", "Dreg"]


@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_a_phase_changes_and_differentiates_its_own_network_only(name: str) -> None:
    state = tiny_state()
    before = {n: copy.deepcopy(dict(getattr(state, n).named_parameters())) for n in ("G", "D", "G_ema")}
    run_phase(phase(state, name), state, OPTIONS, batch())
    changed = {
        n
        for n, old in before.items()
        if any(not torch.equal(p, old[k]) for k, p in getattr(state, n).named_parameters())
    }
    assert changed == {name[0]}
    assert not (state.D_gradients if name[0] == "G" else state.G_gradients).any()


@pytest.mark.parametrize("name", ["Gmain", "Greg", "Dmain", "Dreg"])
def test_only_the_discriminators_main_phase_moves_the_mean_of_w(name: str) -> None:
    state = tiny_state()
    run_phase(phase(state, name), state, OPTIONS, batch())
    assert bool(state.G.mapping.w_avg.any()) == (name == "Dmain")


def test_the_r1_phase_takes_the_gradient_of_gamma_half_times_the_interval() -> None:
    state, inputs = tiny_state(), batch()
    run_phase(phase(state, "Dreg"), state, OPTIONS, inputs)
    reference = tiny_state()
    x = inputs.real_img.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(reference.D(x, inputs.real_c).sum(), x, create_graph=True)
    loss = gradient.square().sum([1, 2, 3]).mean() * (OPTIONS.r1_gamma / 2) * OPTIONS.r1_interval
    expected = torch.autograd.grad(loss, list(reference.D.parameters()), allow_unused=True)
    for param, grad in zip(state.D.parameters(), expected, strict=True):
        torch.testing.assert_close(param.grad, torch.zeros_like(param) if grad is None else grad)


def test_the_path_length_phase_takes_half_a_batch_and_moves_its_mean() -> None:
    state = tiny_state()
    made = []
    state.G.synthesis.register_forward_hook(lambda module, inputs, output: made.append(len(output)))
    run_phase(phase(state, "Greg"), state, OPTIONS, batch())
    assert made == [4]
    assert state.pl_mean > 0


def test_a_gradient_that_is_not_a_number_does_not_reach_the_weights() -> None:
    state, inputs = tiny_state(), batch()
    run_phase(phase(state, "Dmain"), state, OPTIONS, inputs._replace(real_img=inputs.real_img * torch.nan))
    assert all(p.isfinite().all() for p in state.D.parameters())
    with pytest.raises(FloatingPointError, match="phase Dmain"):
        state.stats.summary()
