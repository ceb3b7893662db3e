"""The common loop with networks that normalise their weights and their batches."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from gankern.models.config import resolve
from gankern.models.presets import biggan, sagan
from gankern.models.training.objectives import Batch
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases, run_phase
from gankern.models.training.regularisers import add_orthogonal_gradients
from gankern.models.training.standing import with_standing_statistics
from gankern.models.training.state import TrainingState, new_state

CPU = torch.device("cpu")


def state_of(family: str = "biggan", **options: object) -> tuple[TrainingState, TrainingOptions]:
    """Networks of a preset, as small as they go, in float64."""
    name, module = {"biggan": ("biggan-digits", biggan), "sagan": ("sagan128", sagan)}[family]
    model, training = resolve(name, 32, 1, 3)
    small = {"ch": 4, "attention": (), "z_dim": 8, **({"d_ch": 4} if family == "sagan" else {"base": 4})}
    torch.manual_seed(5)
    training = replace(training, batch=6, batch_gpu=None, **options)
    networks = [net.double() for net in module.build(replace(model, **small))]
    return new_state(*networks, training, CPU), training


def batch(n: int = 6) -> Batch:
    torch.manual_seed(6)
    c = torch.eye(3).double()[torch.arange(n) % 3]
    img, z = torch.rand([n, 1, 32, 32]).double() * 2 - 1, torch.randn([n, 8]).double()
    return Batch(img, c, z, c.flip(0))


def run(state: TrainingState, options: TrainingOptions, name: str, batch_gpu: int | None = None) -> None:
    phase = next(p for p in make_phases(state, options) if p.name == name)
    run_phase(phase, state, options, batch(), batch_gpu)


@pytest.mark.parametrize("d_joint", [False, True])
def test_the_discriminators_gradient_is_that_of_the_hinge_loss(d_joint: bool) -> None:
    state, options = state_of(d_joint=d_joint)
    D, inputs = copy.deepcopy(state.D), batch()
    fake_img = copy.deepcopy(state.G)(inputs.z, inputs.c).detach()
    if d_joint:
        scores = D(torch.cat([fake_img, inputs.real_img]), torch.cat([inputs.c, inputs.real_c]))
        fake, real = scores.chunk(2)
    else:  # two passes, in this order: each renews the vectors of the spectral norm
        fake, real = D(fake_img, inputs.c), D(inputs.real_img, inputs.real_c)
    expected = torch.autograd.grad((1 + fake).relu().mean() + (1 - real).relu().mean(), list(D.parameters()))
    run(state, options, "Dmain")
    for p, gradient in zip(state.D.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_a_discriminator_step_in_parts_is_one_with_the_whole_batch() -> None:
    """There is no batch normalisation in D, and G's, in evaluation, mixes no images either."""
    results = []
    for batch_gpu in (None, 2):
        state, options = state_of(sn_once=True)
        state.G.eval()
        run(state, options, "Dmain", batch_gpu)
        results.append([*state.D_gradients, *state.D.state_dict().values()])
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-10)


def test_a_generator_step_in_parts_is_the_mean_of_steps_with_their_own_batch_statistics() -> None:
    state, options = state_of(sn_once=True)
    G, D = copy.deepcopy(state.G), copy.deepcopy(state.D).requires_grad_(False)
    run(state, options, "Gmain", 2)
    expected = [torch.zeros_like(p) for p in G.parameters()]
    inputs = batch()
    for z, c in zip(inputs.z.split(2), inputs.c.split(2), strict=True):
        G_part, D_part = copy.deepcopy(G), copy.deepcopy(D)  # every part sees the same weights
        loss = -D_part(G_part(z, c), c).mean() / 3
        for total, gradient in zip(expected, torch.autograd.grad(loss, list(G_part.parameters())), strict=True):
            total += gradient
    for p, gradient in zip(state.G.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-9, atol=1e-11)


def test_orthogonal_regularisation_is_half_the_gradient_of_the_papers_penalty() -> None:
    weight = torch.randn([4, 2, 3, 3], dtype=torch.float64, requires_grad=True)
    rows = weight.flatten(1)
    penalty = ((rows @ rows.T) * (1 - torch.eye(4))).square().sum()
    (expected,) = torch.autograd.grad(penalty, weight)
    bias = torch.ones([4], requires_grad=True)
    weight.grad, bias.grad = torch.ones_like(weight), torch.ones_like(bias)
    add_orthogonal_gradients([weight, bias], 0.1)
    torch.testing.assert_close(weight.grad, 1 + 0.1 * expected / 2)
    assert torch.equal(bias.grad, torch.ones_like(bias))


def test_orthogonal_regularisation_leaves_the_shared_embedding_alone() -> None:
    gradients = []
    for strength in (0.0, 0.1):
        state, options = state_of(ortho_strength=strength)
        run(state, options, "Gmain")
        gradients.append({name: p.grad.clone() for name, p in state.G.named_parameters()})
    differ = {name for name, g in gradients[0].items() if not torch.allclose(g, gradients[1][name])}
    assert "shared.weight" not in differ
    assert "linear.weight" in differ


def test_samples_come_from_a_copy_with_standing_statistics() -> None:
    G = state_of()[0].G_ema
    G.double()
    before = {name: t.clone() for name, t in G.state_dict().items()}
    rng = torch.get_rng_state()
    assert with_standing_statistics(G, 0, 4) is G
    copied = with_standing_statistics(G, 3, 4)
    assert torch.equal(torch.get_rng_state(), rng)
    changed = {name for name, t in copied.state_dict().items() if not torch.equal(t, before[name])}
    assert {name.rpartition(".")[2] for name in changed} == {"stored_mean", "stored_var"}
    assert all(torch.equal(t, before[name]) for name, t in G.state_dict().items())
    assert not copied.training


@pytest.mark.parametrize("family", ["biggan", "sagan"])
def test_a_step_of_each_network_changes_it(family: str) -> None:
    state, options = state_of(family)
    for name in ("Dmain", "Gmain"):
        net = getattr(state, name[0])
        before = {k: p.detach().clone() for k, p in net.named_parameters()}
        run(state, options, name)
        still = {k for k, p in net.named_parameters() if torch.equal(p, before[k])}
        assert len(still) < 0.2 * len(before)
        assert not [k for k in still if "linear" in k or "conv1" in k]


def test_a_class_head_is_refused_with_d_joint() -> None:
    state, options = state_of()
    with pytest.raises(ValueError, match=r"class_weight must .* with d_joint"):
        make_phases(state, replace(options, class_weight=1.0))


def test_clipping_is_refused_for_weights_with_a_spectral_norm() -> None:
    state, options = state_of()
    with pytest.raises(ValueError, match="d_clip must be 0 for a discriminator with spectral norm"):
        make_phases(state, replace(options, d_clip=0.01))


def test_r1_joins_the_losses_of_one_pass_through_the_spectral_norm() -> None:
    state, options = state_of(d_joint=True, r1_gamma=3.0, r1_interval=1)
    D, inputs = copy.deepcopy(state.D), batch()
    fake_img = copy.deepcopy(state.G)(inputs.z, inputs.c).detach()
    fake, real = D(torch.cat([fake_img, inputs.real_img]), torch.cat([inputs.c, inputs.real_c])).chunk(2)
    x = inputs.real_img.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x, inputs.real_c).sum(), x, create_graph=True)
    loss = (1 + fake).relu().mean() + (1 - real).relu().mean() + gradient.square().sum([1, 2, 3]).mean() * 3 / 2
    expected = torch.autograd.grad(loss, list(D.parameters()))
    run(state, options, "Dmain")
    for p, wanted in zip(state.D.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, wanted)
