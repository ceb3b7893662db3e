"""One step of each phase."""

import copy
from dataclasses import replace

import pytest
import torch
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN, gradients_of, growing_batch, growing_state

from gankern.models.training.losses import LOSSES
from gankern.models.training.objectives import Batch, layers_in_use
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import Phase, make_phases, run_phase
from gankern.models.training.schedule import stage
from gankern.models.training.state import TrainingState


def batch() -> Batch:
    torch.manual_seed(2)
    c = torch.eye(10)[torch.randint(10, (16,))]
    return Batch(torch.rand(8, 1, 8, 8) * 2 - 1, c[:8], torch.randn(8, 4), c[8:])


def phase(state: TrainingState, name: str, options: TrainingOptions = OPTIONS) -> Phase:
    return next(phase for phase in make_phases(state, options) if phase.name == name)


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


@pytest.mark.parametrize("loss", [*LOSSES, "rpgan"])
@pytest.mark.parametrize("name", ["Gmain", "Dmain"])
@pytest.mark.parametrize("batch_gpu", [1, 3, 4])
def test_gradients_accumulated_over_parts_of_a_batch_are_those_of_the_whole(
    loss: str, name: str, batch_gpu: int
) -> None:
    options = replace(PROGAN, loss=loss, gp_weight=0.0, r1_gamma=2.0, r2_gamma=3.0, r1_interval=1)
    whole, parts = gradients_of(options, name), gradients_of(options, name, batch_gpu)
    assert any(grad.any() for grad in whole)
    torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


def test_the_main_step_of_wgan_gp_takes_the_gradient_of_the_published_sum() -> None:
    options = replace(PROGAN, gp_weight=10.0, gp_target=2.0, drift_weight=0.5, class_weight=0.7)
    found = gradients_of(options, "Dmain")
    state = growing_state(options)
    G, D = state.G.double(), state.D.double()
    state.enter(stage(options, 176), options)
    real, real_c, z, c = growing_batch()
    torch.manual_seed(3)
    with torch.no_grad():
        fake = G(z, c)
    place = torch.rand(8, 1, 1, 1, dtype=torch.float64)
    between = torch.lerp(real, fake, place).requires_grad_()
    (gradient,) = torch.autograd.grad(D(between, real_c).sum(), between, create_graph=True)
    norms = gradient.square().sum([1, 2, 3]).sqrt()
    (real_scores, real_logits), (fake_scores, fake_logits) = D(real, real_c, True), D(fake, c, True)
    loss = (fake_scores - real_scores + 0.5 * real_scores.square()).mean() + 10 / 2**2 * (norms - 2).square().mean()
    for logits, label in ((real_logits, real_c), (fake_logits, c)):
        loss = loss - 0.7 * (logits.log_softmax(1) * label).sum(1).mean()
    expected = torch.autograd.grad(loss, list(D.parameters()), allow_unused=True)
    expected = [torch.zeros_like(p) if g is None else g for p, g in zip(D.parameters(), expected, strict=True)]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_r1_in_every_step_is_one_step_with_the_gradient_of_both_losses() -> None:
    options = replace(
        PROGAN, loss="logistic", gp_weight=0.0, drift_weight=0.0, class_weight=0.0, r1_gamma=3.0, r1_interval=1
    )
    assert [phase.name for phase in make_phases(growing_state(options), options)] == ["Dmain", "Gmain"]
    with_r1, without = gradients_of(options, "Dmain"), gradients_of(replace(options, r1_gamma=0.0), "Dmain")
    state = growing_state(options)
    D = state.D.double()
    state.enter(stage(options, 176), options)
    real, real_c, *_ = growing_batch()
    real.requires_grad_()
    (gradient,) = torch.autograd.grad(D(real, real_c).sum(), real, create_graph=True)
    penalty = gradient.square().sum([1, 2, 3]).mean() * 3.0 / 2
    r1 = torch.autograd.grad(penalty, list(D.parameters()), allow_unused=True)
    for a, b, c in zip(with_r1, without, r1, strict=True):
        torch.testing.assert_close(a, b if c is None else b + c, rtol=1e-9, atol=1e-11)


def test_path_length_in_every_step_belongs_to_the_main_step() -> None:
    options = replace(OPTIONS, pl_interval=1)
    state = tiny_state(options)
    assert [phase.name for phase in make_phases(state, options)] == ["Gmain", "Dmain", "Dreg"]
    run_phase(phase(state, "Gmain", options), state, options, batch())
    assert state.pl_mean > 0


def test_the_order_of_an_iteration_is_an_option() -> None:
    names = [p.name for p in make_phases(tiny_state(), replace(OPTIONS, order=("D", "ema", "G")))]
    assert names == ["Dmain", "Dreg", "Gmain", "Greg"]


@pytest.mark.parametrize("wrong", [{"style_mixing_prob": 0.9}, {"pl_weight": 2.0, "pl_interval": 4}])
def test_what_needs_styles_is_refused_for_a_generator_without(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be 0 for a generator without a mapping network, got"):
        make_phases(growing_state(), replace(PROGAN, **wrong))


def test_styles_mix_only_within_the_layers_that_have_grown() -> None:
    state = tiny_state()
    state.G.img_resolution, state.G.mapping.num_ws = 8, 4
    assert layers_in_use(state.G) == 4
    state.G.resolution = 4
    assert layers_in_use(state.G) == 2


def test_a_gradient_that_is_not_a_number_does_not_reach_the_weights() -> None:
    state, inputs = tiny_state(), batch()
    run_phase(phase(state, "Dmain"), state, OPTIONS, inputs._replace(real_img=inputs.real_img * torch.nan))
    assert all(p.isfinite().all() for p in state.D.parameters())
    with pytest.raises(FloatingPointError, match="phase Dmain"):
        state.stats.summary()
