"""What the page of `gankern explore` asks for is checked, and drawn."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from small_checkpoints import OPTIONS, checkpoint

from gankern.models.explore_view import Studio, turned
from gankern.models.trained import Trained
from gankern.models.training.pictures import tile


def studio(family: str, **options) -> Studio:
    return Studio(Trained(checkpoint(family, **options).G_ema, family), "a model")


def pixels(one: Studio, query: str) -> np.ndarray:
    with Image.open(io.BytesIO(one.png(query))) as image:
        return np.array(image)


@pytest.mark.parametrize("family", OPTIONS)
def test_a_query_gives_the_image_of_its_seed_and_class(family: str) -> None:
    one = studio(family)
    trained = one.trained
    codes = trained.codes(trained.latents([5]), trained.labels([2], 1))
    with torch.no_grad():
        expected = tile(trained.draw(codes), 1)[..., 0]
    assert np.abs(pixels(one, "seed=5&class=2").astype(int) - expected).max() <= 1
    assert one.about()["width"] == 32


@pytest.mark.parametrize(
    ("family", "query"),
    [
        ("stylegan2", "psi=0.2"),
        ("stylegan2", "psi=0.2&cutoff=3"),
        ("stylegan2", "mix_seed=9&mix_first=2&mix_count=3"),
        ("stylegan2", "noise=none"),
        ("stylegan", "strength=3"),
        ("stylegan", "class=1"),
        ("progan", "x=0.5&y=-0.2"),
        ("biggan", "psi=0.3"),
        ("biggan", "mix_seed=9&mix_first=1&mix_count=1"),
        ("sagan", "seed=77"),
    ],
)
def test_a_parameter_changes_the_image_and_leaves_the_generator_as_it_was(family: str, query: str) -> None:
    one = studio(family)
    plain = pixels(one, "")
    assert (pixels(one, query) != plain).any()
    assert (pixels(one, "") == plain).all()


def test_a_grid_shows_the_next_seeds() -> None:
    one = studio("biggan")
    grid = pixels(one, "seed=4294967295&grid=2")  # the last one; then they begin again
    assert grid.shape == (64, 64)
    assert np.abs(grid[:32, 32:].astype(int) - pixels(one, "seed=0")).max() <= 1
    assert np.abs(grid[32:, 32:].astype(int) - pixels(one, "seed=2")).max() <= 1


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("seed=-1", "seed must be a whole number from 0 to 4294967295, got '-1'"),
        ("seed=1.5", "seed must be a whole number"),
        ("seed=", "seed must be a whole number"),
        ("class=3", "class must be a whole number from 0 to 2, got '3'"),
        ("psi=nan", "psi must be a number from -2.0 to 2.0, got 'nan'"),
        ("psi=1e999", "psi must be a number"),
        ("grid=5", "grid must be a whole number from 1 to 4"),
        ("noise=loud", "noise must be one of const, random, none, got 'loud'"),
        ("cutoff=9", "cutoff must be a whole number from 0 to 8"),
        ("seed=1&seed=2", "seed is given twice"),
        ("file=../../etc/passwd", "expected seed, class, .*, got 'file'"),
        ("a" * 5000 + "=1", "got 'a{40}'$"),
        ("&".join(f"p{i}=1" for i in range(1000)), "Max number of fields exceeded"),
        ("seed=" + "9" * 5000, "seed must be a whole number"),
    ],
)
def test_a_parameter_that_is_not_one_of_its_values_is_named(query: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        studio("stylegan2").png(query)


def test_latents_are_turned_on_their_sphere() -> None:
    z = torch.randn(3, 50)
    for x, y in ((0.3, 0.0), (-1.0, 2.0)):
        there = turned(z, x, y)
        torch.testing.assert_close(there.norm(dim=1), z.norm(dim=1))
        cosine = torch.cosine_similarity(there, z)
        torch.testing.assert_close(cosine, torch.full([3], math.cos(math.hypot(x, y))), atol=1e-5, rtol=0)
    assert torch.equal(turned(z, 0, 0), z)
    torch.testing.assert_close(turned(z, 0, math.tau), z, atol=1e-4, rtol=0)


def test_the_page_is_told_what_does_not_apply() -> None:
    about = {family: studio(family).about() for family in ("stylegan2", "progan", "biggan")}
    assert [about[f]["truncation"] for f in about] == [True, False, True]
    assert [about[f]["noise"] for f in about] == [True, False, False]
    assert [about[f]["layers"] for f in about] == [8, 1, 4]
    assert studio("stylegan2", c_dim=0).about()["classes"] == 0
