"""Truncated latents."""

import pytest
import torch

from gankern.models.training.latents import truncated_latents


def test_truncated_latents_are_those_of_a_normal_distribution_below_a_threshold() -> None:
    z = truncated_latents(2000, 50, threshold=0.7)
    assert z.abs().max() <= 0.7
    normal = torch.randn([400_000])
    expected = normal[normal.abs() <= 0.7]
    quantiles = torch.linspace(0.05, 0.95, 10)
    torch.testing.assert_close(z.flatten().quantile(quantiles), expected.quantile(quantiles), rtol=0, atol=0.01)


def test_without_a_threshold_only_the_standard_deviation_counts() -> None:
    z = truncated_latents(2000, 50, std=0.5)
    assert z.std().item() == pytest.approx(0.5, rel=0.02)
    assert z.abs().max() > 1.5


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"std": -1.0}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be positive, got"):
        truncated_latents(1, 2, **wrong)


def test_a_generator_decides_the_numbers() -> None:
    one, same = (truncated_latents(2, 3, 0.5, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(one, same)
