"""The widths and frames that BigGAN and SAGAN share."""

import itertools

import pytest

from gankern.models.resnet import discriminator_stages, generator_stages, nominal_size


@pytest.mark.parametrize(
    ("img_resolution", "expected"),
    [
        (8, (32, 1)),
        (16, (32, 2)),
        (32, (32, 4)),
        (40, (32, 5)),
        (48, (32, 6)),
        (64, (64, 4)),
        (96, (64, 6)),
        (192, (128, 6)),
        (256, (256, 4)),
        (448, (256, 7)),
        (512, (512, 4)),
    ],
)
def test_a_size_has_a_nominal_resolution_and_a_base(img_resolution: int, expected: tuple[int, int]) -> None:
    nominal, base = nominal_size(img_resolution, img_resolution)
    assert (nominal, base) == expected
    assert nominal * base == 4 * img_resolution


@pytest.mark.parametrize("img_resolution", [33, 1024, 4])
def test_a_size_without_widths_is_refused(img_resolution: int) -> None:
    with pytest.raises(ValueError, match=f"images must have a shorter side .*, got {img_resolution}x{img_resolution}"):
        nominal_size(img_resolution, img_resolution)


def test_the_shorter_side_decides_where_networks_start() -> None:
    assert nominal_size(96, 160) == nominal_size(160, 96) == (64, 6)
    assert nominal_size(3, 5, 128) == (64, 6)
    with pytest.raises(ValueError, match=r"the longer one as often divisible by 2, got 36x32 \(width x height\)"):
        nominal_size(32, 36)


def test_a_generator_doubles_from_4_to_its_resolution() -> None:
    for resolution in (32, 64, 128, 256, 512):
        stages = generator_stages(resolution, 1)
        assert [stage.resolution for stage in stages] == [2**i for i in range(3, resolution.bit_length())]
        assert all(a.out_channels == b.in_channels for a, b in itertools.pairwise(stages))


def test_a_discriminator_halves_to_4_and_then_keeps_its_size() -> None:
    for resolution in (64, 128, 256, 512):
        stages = discriminator_stages(resolution, 1, 3)
        assert [stage.resample for stage in stages] == [True] * (len(stages) - 1) + [False]
        assert (stages[0].in_channels, stages[-1].resolution) == (3, 4)
        deep = discriminator_stages(resolution, 1, None)
        assert [stage.resample for stage in deep] == [True] * (len(stages) - 1)
    assert [(s.resample, s.resolution) for s in discriminator_stages(32, 1, 3)] == [
        (True, 16),
        (True, 8),
        (False, 8),
        (False, 8),
    ]
