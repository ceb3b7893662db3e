"""The generator's average."""

from dataclasses import replace

import pytest
from tiny import OPTIONS
from tiny_growing import PROGAN

from gankern.models.training.ema import average_beta, ema_beta
from gankern.models.training.schedule import stage


def test_the_half_life_is_counted_in_images() -> None:
    assert ema_beta(32, 10**9, 10, None) == pytest.approx(0.5 ** (32 / 10_000))
    assert ema_beta(64, 10**9, 10, None) == pytest.approx(ema_beta(32, 10**9, 10, None) ** 2)


@pytest.mark.parametrize("cur_nimg", [32, 1000, 50_000])
def test_ramp_up_caps_the_half_life_at_a_fraction_of_the_images_seen(cur_nimg: int) -> None:
    assert ema_beta(32, cur_nimg, 10, 0.05) == pytest.approx(0.5 ** (32 / (0.05 * cur_nimg)))


def test_ramp_up_ends_at_the_half_life_and_starts_with_a_copy() -> None:
    assert ema_beta(32, 10**7, 10, 0.05) == ema_beta(32, 10**7, 10, None)
    assert ema_beta(32, 0, 10, 0.05) == 0


def test_the_average_is_copied_until_it_starts_and_then_moves_by_its_beta() -> None:
    options = replace(OPTIONS, ema_kimg=None, ema_rampup=None, ema_beta=0.99, ema_start=5)
    assert average_beta(options, stage(options, 4 * options.batch), 4 * options.batch) == 0
    assert average_beta(options, stage(options, 5 * options.batch), 5 * options.batch) == 0.99


def test_a_half_life_counts_every_real_image_of_an_iteration() -> None:
    options = replace(OPTIONS, ema_kimg=1.0, ema_rampup=None, d_steps=2)
    assert average_beta(options, stage(options, 0), 0) == ema_beta(2 * options.batch, 0, 1.0, None)


def test_a_half_life_follows_the_batch_of_a_growing_run() -> None:
    options = replace(PROGAN, ema_beta=None, ema_kimg=1.0)
    betas = [average_beta(options, stage(options, nimg), nimg) for nimg in (0, 216)]
    assert betas == [ema_beta(16, 0, 1.0, None), ema_beta(8, 216, 1.0, None)]
