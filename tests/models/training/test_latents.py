"""Truncated latents."""

import math

import pytest
import torch

from gankern.models.training.latents import truncate


def test_truncated_latents_are_those_of_a_normal_distribution_below_a_threshold() -> None:
    x = truncate(torch.randn(2000, 50), threshold=0.7)
    assert x.abs().max() <= 0.7
    normal = torch.randn([400_000])
    expected = normal[normal.abs() <= 0.7]
    quantiles = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(x.flatten().quantile(quantiles), expected.quantile(quantiles), rtol=0, atol=0.01)


def test_every_latent_keeps_its_rank_and_its_sign() -> None:
    z = torch.linspace(-6, 6, 101)[None]
    x = truncate(z)
    assert (x.diff() >= 0).all()
    assert (x.sign() == z.sign()).all()
    assert torch.allclose(truncate(z, threshold=9.0), z, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_a_threshold_that_is_not_positive_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be positive"):
        truncate(torch.zeros(1, 2), threshold)
