"""Closed ways: through every image, back to the first, smooth."""

from __future__ import annotations

import math

import pytest
import torch
from small_checkpoints import checkpoint

from gankern.models.closed_path import closed_path, periodic_spline
from gankern.models.trained import Trained


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_the_spline_goes_through_its_points_and_closes(k: int) -> None:
    points = torch.randn(k, 2, 5)
    at = periodic_spline(points)
    for t in range(2 * k):
        torch.testing.assert_close(at(t), points[t % k], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(at(k - 1e-6), points[0], atol=1e-4, rtol=1e-4)


def test_the_spline_has_two_continuous_derivatives_where_pieces_meet() -> None:
    at = periodic_spline(torch.randn(5, 3, dtype=torch.float64))
    h = 1e-3
    for knot in (5, 1, 4):  # from one period to the next, too
        left, right = ([at(knot + side * i * h) for i in range(3)] for side in (-1, 1))
        slope = [(p[1] - p[0]) / h for p in (left, right)]
        torch.testing.assert_close(slope[0], -slope[1], atol=0.05, rtol=0)
        bend = [(p[0] - 2 * p[1] + p[2]) / h**2 for p in (left, right)]
        torch.testing.assert_close(bend[0], bend[1], atol=0.1, rtol=0)
        assert bend[0].abs().max() > 0.5  # else the last line would say nothing


def test_the_spline_of_a_circle_is_nearly_a_circle() -> None:
    angles = torch.arange(8) * math.tau / 8
    at = periodic_spline(torch.stack([angles.cos(), angles.sin()], 1))
    lengths = torch.stack([at(t / 10).norm() for t in range(80)])
    assert (lengths - 1).abs().max() < 3e-3  # chords would leave it by 0.076


@pytest.mark.parametrize(("family", "space"), [("stylegan2", "w"), ("stylegan", "z"), ("biggan", "z"), ("sagan", "z")])
def test_a_way_visits_its_images_in_turn(family: str, space: str) -> None:
    one = Trained(checkpoint(family).G_ema, family)
    z, c = one.latents([1, 2, 3, 4, 5, 6]).unflatten(0, (2, 3)), one.labels(None, 6).unflatten(0, (2, 3))
    at = closed_path(one, z, c, space, psi=0.7)
    for t in (0, 1, 2, 3):
        expected = one.codes(z[:, t % 3], c[:, t % 3], 0.7)
        torch.testing.assert_close(at(t).layers, expected.layers, atol=1e-4, rtol=1e-4)
        if not one.has_styles:
            torch.testing.assert_close(at(t).c, expected.c)


def test_halfway_through_z_the_length_is_the_mean_and_the_classes_are_mixed() -> None:
    one = Trained(checkpoint("biggan").G_ema, "biggan")
    z = torch.stack([torch.eye(16)[0] * 2, torch.eye(16)[1] * 4])[None]
    half = closed_path(one, z, one.labels([0, 2], 2)[None], "z")(0.5)
    expected = torch.zeros(1, 16)
    expected[0, :2] = 3 / math.sqrt(2)
    torch.testing.assert_close(half.layers.flatten(1), expected, atol=1e-5, rtol=1e-5)
    assert half.c.tolist() == [[0.5, 0, 0.5]]
