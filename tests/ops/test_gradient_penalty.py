"""Gradient penalties: against gradients written out by hand, and through whole networks against plain PyTorch."""

from __future__ import annotations

import math

import pytest
import torch

import gankern
from gankern import path_length_penalty, r1_penalty, r2_penalty, wgan_gp_penalty
from gankern.models.stylegan2 import Generator
from gankern.reference import gradient_penalty as reference

# Relative to the largest value: sums of some hundred products in float32, and in float64.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


class Discriminator(torch.nn.Module):
    """Convolutions with bias_act and upfirdn2d between them; the scores are projected on the labels, if any."""

    def __init__(self, dtype: torch.dtype, c_dim: int = 0, device: str = "cpu") -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shapes = {"w0": [6, 3, 3, 3], "b0": [6], "w1": [5, 6, 3, 3], "b1": [5], "out": [max(c_dim, 1), 5]}
        for name, shape in shapes.items():
            value = torch.randn(shape, dtype=torch.float64, generator=generator) / 3
            self.register_parameter(name, torch.nn.Parameter(value.to(dtype).to(device)))
        self.register_buffer("f", gankern.setup_filter([1, 3, 3, 1], device=device))

    def forward(self, x: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        x = gankern.bias_act(torch.nn.functional.conv2d(x, self.w0, padding=1), self.b0, act="lrelu")
        x = gankern.downsample2d(x, self.f)
        x = gankern.bias_act(torch.nn.functional.conv2d(x, self.w1, padding=1), self.b1 * 0.5, act="swish")
        scores = x.mean([2, 3]) @ self.out.T  # [N, max(c_dim, 1)]
        return scores if c is None else (scores * c).sum(1, keepdim=True)


def images(dtype: torch.dtype, device: str = "cpu", n: int = 4, seed: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn([n, 3, 8, 8], dtype=torch.float64, generator=generator).to(dtype).to(device)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    atol = TOLERANCE[dtype] * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def quadratic(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """D(x) = sum(weight * x^2), so that dD/dx = 2 weight x."""
    return (weight * x.square()).sum([1, 2, 3])[:, None]


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_r1_is_the_squared_norm_of_the_gradient_at_each_sample(penalty):
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    weight = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    value = penalty(quadratic, x, weight)
    torch.testing.assert_close(value, (2 * weight * x).square().sum([1, 2, 3]), rtol=1e-10, atol=1e-12)
    value.sum().backward()
    torch.testing.assert_close(weight.grad, (8 * weight * x.square()).sum(0), rtol=1e-10, atol=1e-12)


def test_a_sample_that_is_part_of_a_graph_gets_no_gradient():
    latent = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4, requires_grad=True)
    r2_penalty(quadratic, latent.tanh(), weight).sum().backward()
    assert latent.grad is None
    assert weight.grad is not None


def test_wgan_gp_is_taken_at_a_random_place_of_each_sample_between_real_and_fake():
    places = []

    def linear(x: torch.Tensor) -> torch.Tensor:
        places.append(x.detach()[:, 0])
        return x.sum(1) * 3  # the norm of its gradient is 3 sqrt(2)

    penalty = wgan_gp_penalty(linear, torch.zeros(2000, 2), torch.ones(2000, 2), target=2.0)
    torch.testing.assert_close(penalty, torch.full([2000], (3 * math.sqrt(2) - 2) ** 2))
    assert places[0].min() >= 0
    assert places[0].max() < 1
    assert places[0].mean() == pytest.approx(0.5, abs=0.033)  # five standard deviations
    assert places[0].var() == pytest.approx(1 / 12, abs=0.01)


def test_wgan_gp_of_a_flat_discriminator_is_target_squared_with_finite_gradients():
    weight = torch.zeros(3, 4, 4, requires_grad=True)
    x = torch.randn(2, 3, 4, 4)
    penalty = wgan_gp_penalty(quadratic, x, -x, weight)
    torch.testing.assert_close(penalty, torch.ones(2))
    penalty.sum().backward()
    assert weight.grad.eq(0).all()


def test_path_lengths_are_norms_of_the_jacobians_product_with_noise_and_the_mean_moves():
    ws = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(3, 5, 2 * 4 * 8, dtype=torch.float64)
    img = torch.einsum("nkw,kwp->np", ws, matrix).reshape(6, 2, 4, 8)  # linear, its Jacobian is the matrix
    pl_mean = torch.tensor(1.0, dtype=torch.float64)
    torch.manual_seed(4)
    penalty = path_length_penalty(img, ws, pl_mean, decay=0.25)
    torch.manual_seed(4)
    noise = torch.randn(6, 2, 4, 8, dtype=torch.float64).reshape(6, -1) / math.sqrt(4 * 8)
    lengths = torch.einsum("kwp,np->nkw", matrix, noise).square().sum(2).mean(1).sqrt()
    mean = 0.75 * 1 + 0.25 * lengths.mean()
    torch.testing.assert_close(penalty, (lengths - mean).square(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(pl_mean, mean, rtol=1e-12, atol=0)
    assert not pl_mean.requires_grad


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", ["r1", "r1_with_labels", "wgan_gp", "wgan_gp_with_labels"])
def test_a_penalty_of_a_discriminator_equals_eagers_parameter_gradients_included(kind, dtype, backend, device):
    def step(backend: str, penalty) -> list[torch.Tensor]:
        c = torch.eye(3, dtype=dtype, device=device)[[0, 2, 1, 2]] if "labels" in kind else None
        D = Discriminator(dtype, 0 if c is None else 3, device)
        torch.manual_seed(5)
        with gankern.use_backend(backend):
            value = penalty(D, [] if c is None else [c])
            return [value.detach(), *torch.autograd.grad(value.mean(), list(D.parameters()), allow_unused=True)]

    real, fake = images(dtype, device), images(dtype, device, seed=5)
    if kind.startswith("r1"):
        actual = step(backend, lambda D, args: r1_penalty(D, real, *args))
        expected = step("eager", lambda D, args: reference.squared_gradient_norms(D, real, *args))
    else:
        actual = step(backend, lambda D, args: wgan_gp_penalty(D, real, fake, *args, target=0.7))
        expected = step("eager", lambda D, args: reference.wgan_gp_penalty(D, real, fake, *args, target=0.7))
    assert actual[0].shape == (4,)
    for value, same in zip(actual, expected, strict=True):
        if same is None:
            assert value is None  # a bias after which nothing is curved
        else:
            assert_close(value, same, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_the_path_length_of_a_stylegan2_equals_eagers_parameter_gradients_included(dtype, backend, device):
    def step(backend: str, penalty) -> list[torch.Tensor]:
        torch.manual_seed(0)
        options = {"channel_base": 64, "channel_max": 8, "mapping_kwargs": {"num_layers": 2}}
        G = Generator(6, 0, 5, 16, 3, **options).to(dtype).to(device)
        parameters = list(G.synthesis.parameters())
        for parameter in parameters:
            parameter.data.add_(0.1)
        pl_mean = torch.full([], 0.5, dtype=dtype, device=device)
        ws = torch.randn([2, G.num_ws, 5], dtype=torch.float64).to(dtype).to(device).requires_grad_()
        with gankern.use_backend(backend):
            torch.manual_seed(5)
            value = penalty(G.synthesis(ws, noise_mode="const"), ws, pl_mean, 0.01)
            gradients = torch.autograd.grad(value.mean(), parameters, allow_unused=True)
        return [value.detach(), pl_mean, *(g for g in gradients if g is not None)]

    if backend == "triton" and device == "cpu":
        pytest.skip("the interpreter is too slow for a whole network")
    actual, expected = step(backend, path_length_penalty), step("eager", reference.path_length_penalty)
    assert len(expected) > 20
    for value, same in zip(actual, expected, strict=True):
        assert_close(value, same, dtype)


def test_the_penalty_of_a_sample_does_not_depend_on_the_others():
    D, x = Discriminator(torch.float64), images(torch.float64)
    alone = torch.cat([r1_penalty(D, one) for one in x.split(1)])
    torch.testing.assert_close(r1_penalty(D, x), alone, rtol=1e-12, atol=1e-14)


def test_the_inner_gradient_computes_no_gradients_of_parameters(monkeypatch):
    seen = []
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *args, **kwargs: seen.append(gankern.library._inputs_only) or [args[1]]
    )
    r1_penalty(Discriminator(torch.float32), images(torch.float32))
    assert seen == [True]


@pytest.mark.parametrize("compiled", ["module", "function", "in_place"])
def test_a_compiled_discriminator_is_refused_with_advice(compiled):
    D = Discriminator(torch.float32)
    if compiled == "in_place":
        D.compile()
    else:
        D = torch.compile(D if compiled == "module" else D.forward)
    with pytest.raises(RuntimeError, match=r"gankern.r1_penalty: D must not be compiled .* compile the loss instead"):
        r1_penalty(D, images(torch.float32))


def test_a_compiled_loss_equals_the_loss():
    torch._dynamo.reset()
    D, x = Discriminator(torch.float64), images(torch.float64).requires_grad_()

    def loss(D, x):
        return r1_penalty(D, x).mean()

    expected = torch.autograd.grad(loss(D, x), [D.w0, D.w1, D.out])
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        value = torch.compile(loss, fullgraph=True, backend="aot_eager")(D, x)
        actual = torch.autograd.grad(value, [D.w0, D.w1, D.out])
    for gradient, same in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, same, rtol=1e-9, atol=1e-12)


def test_errors_name_the_argument():
    D, x = Discriminator(torch.float32), images(torch.float32)
    with pytest.raises(TypeError, match=r"gankern.r1_penalty: x must be a torch.Tensor, got list"):
        r1_penalty(D, [1])
    with pytest.raises(TypeError, match=r"gankern.r2_penalty: D\(x\) must be a torch.Tensor, got tuple"):
        r2_penalty(lambda x: (x, x), x)
    with pytest.raises(ValueError, match=r"gankern.wgan_gp_penalty: fake must have the shape of real, \[4, 3, 8, 8\]"):
        wgan_gp_penalty(D, x, x[:2])
    with pytest.raises(ValueError, match=r"gankern.path_length_penalty: ws must have shape \[N = 4, num_ws, w_dim\]"):
        path_length_penalty(x, torch.zeros(3, 2, 5), torch.zeros([]))
