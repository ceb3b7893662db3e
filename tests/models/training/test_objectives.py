"""What the phases minimise, against the formulas of the papers written out in plain PyTorch."""

from dataclasses import replace

import pytest
import torch
from tiny_growing import PROGAN, gradients_of, growing_batch, growing_state
from torch import Tensor

from gankern.models.training.losses import LOSSES, RELATIVISTIC_LOSSES
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.schedule import stage
from gankern.models.training.state import TrainingState

PLAIN = replace(PROGAN, loss="logistic", gp_weight=0.0, drift_weight=0.0, class_weight=0.0)


def grown_state(options: TrainingOptions) -> TrainingState:
    """Networks in float64, in the middle of a fade."""
    state = growing_state(options)
    state.G.double()
    state.D.double()
    state.enter(stage(options, 176), options)
    return state


def squares(D: torch.nn.Module, img: Tensor, c: Tensor) -> Tensor:
    """Mean squared norm of the scores' gradient."""
    x = img.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, c).sum(), x, create_graph=True)
    return gradient.square().sum([1, 2, 3]).mean()


def expected(loss: Tensor, net: torch.nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(net.parameters(), found, strict=True)]


def log_sigmoid(x: Tensor) -> Tensor:
    return -torch.log1p(torch.exp(-x))


@pytest.mark.parametrize("joint", [False, True], ids=["two-passes", "one-pass"])
def test_paired_relativistic_losses_train_both_networks_by_their_formula(joint: bool) -> None:
    options = replace(PLAIN, loss="rpgan", d_joint=joint)
    state, (real, real_c, z, c) = grown_state(options), growing_batch()
    G, D = state.G, state.D
    d_loss = -log_sigmoid(D(real, real_c) - D(G(z, c), c)).mean()
    g_loss = -log_sigmoid(D(G(z, c), c) - D(real, real_c)).mean()
    torch.testing.assert_close(gradients_of(options, "Dmain"), expected(d_loss, D), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(gradients_of(options, "Gmain"), expected(g_loss, G), rtol=1e-9, atol=1e-11)


def test_averaged_relativistic_losses_compare_with_the_mean_of_the_others() -> None:
    options = replace(PLAIN, loss="ragan")
    state, (real, real_c, z, c) = grown_state(options), growing_batch()
    fakes, reals = state.D(state.G(z, c), c), state.D(real, real_c)
    d_loss = -(log_sigmoid(reals - fakes.mean()) + torch.log(1 - (fakes - reals.mean()).sigmoid())).mean()
    torch.testing.assert_close(gradients_of(options, "Dmain"), expected(d_loss, state.D), rtol=1e-9, atol=1e-11)
    fakes, reals = state.D(state.G(z, c), c), state.D(real, real_c)
    g_loss = -(log_sigmoid(fakes - reals.mean()) + torch.log(1 - (reals - fakes.mean()).sigmoid())).mean()
    torch.testing.assert_close(gradients_of(options, "Gmain"), expected(g_loss, state.G), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", ["logistic", "rpgan"])
@pytest.mark.parametrize("joint", [False, True], ids=["two-passes", "one-pass"])
def test_r1_and_r2_in_every_step_add_their_gradients(loss: str, joint: bool) -> None:
    options = replace(PLAIN, loss=loss, d_joint=joint, r1_interval=1)
    both = gradients_of(replace(options, r1_gamma=3.0, r2_gamma=5.0), "Dmain")
    none = gradients_of(options, "Dmain")
    state, (real, real_c, z, c) = grown_state(options), growing_batch()
    penalty = squares(state.D, real, real_c) * 3 / 2 + squares(state.D, state.G(z, c), c) * 5 / 2
    wanted = [a + b for a, b in zip(none, expected(penalty, state.D), strict=True)]
    torch.testing.assert_close(both, wanted, rtol=1e-9, atol=1e-11)


def test_lazy_r2_has_the_steps_of_r1_and_counts_for_its_interval() -> None:
    options = replace(PLAIN, r1_interval=4, r2_gamma=5.0)
    assert [phase.name for phase in make_phases(growing_state(options), options)] == ["Dmain", "Dreg", "Gmain"]
    state, (_, _, z, c) = grown_state(options), growing_batch()
    penalty = squares(state.D, state.G(z, c), c) * 5 / 2 * 4
    torch.testing.assert_close(gradients_of(options, "Dreg"), expected(penalty, state.D), rtol=1e-9, atol=1e-11)


def test_a_gradient_penalty_joins_the_losses_of_one_pass() -> None:
    options = replace(PLAIN, loss="wgan", gp_weight=10.0, drift_weight=0.5)
    found = gradients_of(replace(options, d_joint=True), "Dmain")
    torch.testing.assert_close(found, gradients_of(options, "Dmain"), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", [*LOSSES, *RELATIVISTIC_LOSSES])
@pytest.mark.parametrize("joint", [False, True], ids=["two-passes", "one-pass"])
def test_discriminators_learn_to_tell_and_generators_to_please(loss: str, joint: bool) -> None:
    """After a few steps of D alone real images score higher than generated ones; then of G alone, less so."""
    options = replace(PLAIN, loss=loss, d_joint=joint, growth=None)
    state = growing_state(options)
    batch = type(growing_batch())(*(tensor.float() for tensor in growing_batch()))
    phases = {phase.name: phase for phase in make_phases(state, options)}

    def gap() -> float:
        with torch.no_grad():
            fakes = state.D(state.G(batch.z, batch.c), batch.c)
            return float((state.D(batch.real_img, batch.real_c) - fakes).mean())

    def steps(name: str, number: int) -> float:
        for _ in range(number):
            run_phase(phases[name], state, options, batch)
        return gap()

    first = gap()
    taught = steps("Dmain", 30)
    pleased = steps("Gmain", 10)
    assert taught > first + 0.02
    assert pleased < taught - 0.01


def test_clipping_bounds_the_discriminators_weights_and_leaves_the_generators() -> None:
    options = replace(PLAIN, loss="wgan", d_clip=0.01, growth=None)
    state = growing_state(options)
    batch = type(growing_batch())(*(tensor.float() for tensor in growing_batch()))
    for phase in make_phases(state, options):
        run_phase(phase, state, options, batch)
    weights = {
        name: torch.cat([p.detach().flatten() for p in net.parameters()]).abs()
        for name, net in (("G", state.G), ("D", state.D))
    }
    assert weights["D"].max() <= 0.01 < weights["G"].max()
    assert (weights["D"] < 0.01).any()


def test_r2_without_an_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="r2_gamma needs an r1_interval"):
        replace(PLAIN, r2_gamma=1.0)
