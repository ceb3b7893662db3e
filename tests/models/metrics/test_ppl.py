"""Perceptual path length."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_generators import Linear, Stripes, squared
from torch import Tensor

from gankern.models.metrics import ppl as module
from gankern.models.metrics.ppl import FACE, ppl, slerp

STEP = 1e-2  # images are float32: a smaller step would drown in their rounding


def latents(num: int, seed: int = 0) -> Tensor:
    return torch.randn(num, 2, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sampling", ["full", "end"])
def test_a_linear_generator_moves_as_far_as_its_matrix_says(sampling: str) -> None:
    G = Linear()
    z = latents(40).double()
    lengths = ((z[:, 1] - z[:, 0]) @ G.B @ G.A).square().sum(1)  # of the whole path in w, squared; the same at every t
    ordered = lengths.sort().values
    # 1 % of 39 intervals, rounded outwards: nothing is left out
    found = ppl(G, squared, num_pairs=40, sampling=sampling, epsilon=STEP, batch=7)
    assert found == pytest.approx(ordered.mean().item(), rel=1e-4)


def test_lerp_in_z_is_the_same_for_it_and_slerp_is_not() -> None:
    G = Linear()
    in_w = ppl(G, squared, num_pairs=20, epsilon=STEP)
    assert ppl(G, squared, num_pairs=20, space="z", interpolation="lerp", epsilon=STEP) == pytest.approx(in_w, rel=1e-4)
    assert ppl(G, squared, num_pairs=20, space="z", epsilon=STEP) != pytest.approx(in_w, rel=0.01)


def test_slerp_turns_evenly_at_a_normal_latents_length() -> None:
    a, b = torch.randn(5, 16, dtype=torch.float64), torch.randn(5, 16, dtype=torch.float64)
    t = torch.tensor([[0.3]], dtype=torch.float64)
    unit = lambda x: x / x.norm(dim=1, keepdim=True)  # noqa: E731
    torch.testing.assert_close(slerp(a, b, 0 * t), unit(a) * 4)
    torch.testing.assert_close(slerp(a, b, 0 * t + 1), unit(b) * 4)
    angle = lambda x, y: (unit(x) * unit(y)).sum(1).acos()  # noqa: E731
    torch.testing.assert_close(angle(slerp(a, b, t), a), 0.3 * angle(a, b))
    torch.testing.assert_close(slerp(a, b, t).norm(dim=1), torch.full([5], 4.0, dtype=torch.float64))


def test_both_images_of_a_pair_have_the_same_noise() -> None:
    quiet, noisy = (ppl(Linear(noise=n), squared, num_pairs=20, epsilon=STEP) for n in (0.0, 10.0))
    assert noisy == pytest.approx(quiet, rel=1e-3)


def test_the_lowest_and_the_highest_percent_are_left_out() -> None:
    values = torch.cat([torch.ones(201), torch.tensor([1e9, 1e9, -1e9])])
    assert module._trimmed_mean(values) == pytest.approx(1.0)
    values = torch.randn(333, dtype=torch.float64)
    low = np.percentile(values.numpy(), 1, method="lower")
    high = np.percentile(values.numpy(), 99, method="higher")
    kept = values[(values >= low) & (values <= high)]
    assert module._trimmed_mean(values) == pytest.approx(kept.mean().item(), rel=1e-12)


def test_a_crop_and_a_large_image_reach_the_distance_as_published() -> None:
    seen = []

    def distance(a: Tensor, b: Tensor) -> Tensor:
        seen.append(tuple(a.shape))
        return squared(a, b)

    ppl(Stripes(size=64), distance, num_pairs=2, space="z", crop=FACE)
    ppl(Stripes(size=512, channels=3), distance, num_pairs=2, space="z")
    assert seen == [(2, 3, 32, 32), (2, 3, 256, 256)]


def test_it_is_seeded_and_keeps_off_the_global_random_numbers() -> None:
    before = torch.get_rng_state()
    first, again, other = (ppl(Linear(noise=1.0), squared, num_pairs=6, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert math.isfinite(first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": "x"}, "space must be one of z, w, got x"),
        ({"sampling": "start"}, "sampling must be one of full, end, got start"),
        ({"interpolation": "cubic"}, "interpolation must be one of slerp, lerp, got cubic"),
    ],
)
def test_an_unknown_option_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ppl(Linear(), squared, num_pairs=2, **given)


def test_w_needs_a_mapping() -> None:
    with pytest.raises(ValueError, match="Stripes has z only"):
        ppl(Stripes(), squared, num_pairs=2)
