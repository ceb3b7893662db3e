"""The generator's average."""

import pytest

from gankern.models.training.ema import ema_beta


def test_the_half_life_is_counted_in_images() -> None:
    assert ema_beta(32, 10**9, 10, None) == pytest.approx(0.5 ** (32 / 10_000))
    assert ema_beta(64, 10**9, 10, None) == pytest.approx(ema_beta(32, 10**9, 10, None) ** 2)


@pytest.mark.parametrize("cur_nimg", [32, 1000, 50_000])
def test_ramp_up_caps_the_half_life_at_a_fraction_of_the_images_seen(cur_nimg: int) -> None:
    assert ema_beta(32, cur_nimg, 10, 0.05) == pytest.approx(0.5 ** (32 / (0.05 * cur_nimg)))


def test_ramp_up_ends_at_the_half_life_and_starts_with_a_copy() -> None:
    assert ema_beta(32, 10**7, 10, 0.05) == ema_beta(32, 10**7, 10, None)
    assert ema_beta(32, 0, 10, 0.05) == 0
