"""Penalties against gradients written out by hand, and style mixing."""

import math

import pytest
import torch
from torch import Tensor

from gankern.models.training.regularisers import mix_styles, path_length_penalty, path_lengths, r1_penalty


def quadratic_scores(x: Tensor, weight: Tensor) -> Tensor:
    """D(x) = sum(weight * x^2), so that dD/dx = 2 weight x."""
    return (weight * x.square()).sum([1, 2, 3])[:, None]


def test_r1_is_the_squared_norm_of_the_gradient_at_each_image() -> None:
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 4, dtype=torch.float64)
    expected = (2 * weight * x.detach()).square().sum([1, 2, 3])
    torch.testing.assert_close(r1_penalty(x, quadratic_scores(x, weight)), expected, rtol=1e-10, atol=1e-12)


def test_r1_is_differentiable_in_the_parameters() -> None:
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 4, 4, dtype=torch.float64, requires_grad=True)
    r1_penalty(x, quadratic_scores(x, weight)).sum().backward()
    expected = (8 * weight * x.square()).sum(0)  # d/dweight of 4 weight^2 x^2
    torch.testing.assert_close(weight.grad, expected, rtol=1e-10, atol=1e-12)


def test_path_lengths_are_norms_of_the_jacobians_product_with_noise() -> None:
    ws = torch.randn(6, 3, 5, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(3, 5, 2 * 4 * 8, dtype=torch.float64)
    img = torch.einsum("nkw,kwp->np", ws, matrix).reshape(6, 2, 4, 8)  # linear, its Jacobian is the matrix
    torch.manual_seed(4)
    lengths = path_lengths(img, ws)
    torch.manual_seed(4)
    noise = torch.randn(6, 2, 4, 8, dtype=torch.float64).reshape(6, -1) / math.sqrt(4 * 8)
    products = torch.einsum("kwp,np->nkw", matrix, noise)
    torch.testing.assert_close(lengths, products.square().sum(2).mean(1).sqrt(), rtol=1e-10, atol=1e-12)


def test_path_length_penalty_moves_its_mean_by_a_hundredth_and_differentiates_through_it() -> None:
    lengths = torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True)
    pl_mean = torch.tensor(1.0, dtype=torch.float64)
    penalty = path_length_penalty(lengths, pl_mean)
    mean = 1.0 + 0.01 * (2.0 - 1.0)
    assert pl_mean.item() == pytest.approx(mean, rel=1e-12)
    assert not pl_mean.requires_grad
    torch.testing.assert_close(penalty, torch.tensor([(1 - mean) ** 2, (3 - mean) ** 2], dtype=torch.float64))
    penalty.sum().backward()
    through_mean = -2 * ((1 - mean) + (3 - mean)) * 0.005  # each length moves the mean by 0.01 / 2
    expected = torch.tensor([2 * (1 - mean) + through_mean, 2 * (3 - mean) + through_mean], dtype=torch.float64)
    torch.testing.assert_close(lengths.grad, expected, rtol=1e-10, atol=1e-12)


def cutoffs(probability: float, num_ws: int, count: int) -> Tensor:
    """How many layers of each mix came from the first latents."""
    first, second = torch.zeros(2, num_ws, 3), torch.ones(2, num_ws, 3)
    mixes = torch.stack([mix_styles(first, second, probability) for _ in range(count)])  # [count, 2, num_ws, 3]
    own = mixes == 0
    assert torch.equal(own, own[:, :1, :, :1].expand_as(own)), "one cutoff for the whole batch"
    assert (own[:, 0, :-1, 0] >= own[:, 0, 1:, 0]).all(), "the first layers are the own ones"
    return own[:, 0, :, 0].sum(1)


def test_style_mixing_cuts_uniformly_after_the_first_layer() -> None:
    counts = torch.bincount(cutoffs(1.0, num_ws=5, count=2000), minlength=6)
    assert counts[0] == 0
    assert counts[5] == 0
    assert (counts[1:5] - 500).abs().max() < 100  # five standard deviations of a binomial are 97


def test_style_mixing_happens_with_its_probability() -> None:
    mixed = (cutoffs(0.3, num_ws=5, count=2000) < 5).sum()
    assert abs(mixed - 600) < 103  # five standard deviations
    assert (cutoffs(0.0, num_ws=5, count=50) == 5).all()


def test_one_layer_cannot_be_mixed() -> None:
    ws = torch.zeros(2, 1, 3)
    assert torch.equal(mix_styles(ws, torch.ones(2, 1, 3), 1.0), ws)
