"""What is done to each image of a data set."""

import numpy as np
import pytest

from gankern.models.dataset.preparation import Preparation, center_crop, luma


def ramp(height: int, width: int, channels: int = 3) -> np.ndarray:
    """The pixel in row y and column x is (y, x, y + x)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y, x, y + x], axis=2)[:, :, :channels].astype(np.uint8)


def test_nothing_is_done_unless_asked() -> None:
    assert Preparation()(ramp(5, 7)) is not None
    np.testing.assert_array_equal(Preparation()(ramp(5, 7)), ramp(5, 7))


@pytest.mark.parametrize(
    ("size", "proportion", "expected"),
    [((6, 10), 1.0, (6, 6)), ((10, 6), 1.0, (6, 6)), ((10, 10), 0.5, (5, 10)), ((30, 10), 2.0, (20, 10))],
)
def test_the_largest_centred_part_is_cut_out(
    size: tuple[int, int], proportion: float, expected: tuple[int, int]
) -> None:
    part = center_crop(ramp(*size), proportion)
    assert part.shape[:2] == expected
    top, left = (size[0] - expected[0]) // 2, (size[1] - expected[1]) // 2
    assert part[0, 0].tolist() == [top, left, top + left]


def test_without_a_transform_images_are_stretched() -> None:
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, 8:] = 200
    small = Preparation((4, 4), resize_filter="box")(image)
    assert small.shape == (4, 4, 3)
    assert small[0, :, 0].tolist() == [0, 0, 200, 200]


def test_box_is_the_mean_and_lanczos_is_sharper() -> None:
    image = np.random.RandomState(0).randint(0, 256, (8, 8, 1), np.uint8)
    box = Preparation((4, 4), resize_filter="box")(image)
    means = image.reshape(4, 2, 4, 2).mean(axis=(1, 3))
    assert np.abs(box[:, :, 0] - means).max() <= 1
    edge = np.repeat(np.array([[[100]] * 7 + [[200]] * 9], np.uint8), 16, axis=0)
    assert Preparation((4, 4), resize_filter="box")(edge).min() == 100
    assert Preparation((4, 4))(edge).min() < 100  # overshoots


def test_center_crop_wide_adds_black_bars_to_images_that_are_large_enough() -> None:
    image = np.full((40, 50, 3), 9, np.uint8)
    wide = Preparation((24, 32), "center-crop-wide")(image)
    assert wide.shape == (32, 32, 3)
    assert wide[:, 0, 0].tolist() == [0] * 4 + [9] * 24 + [0] * 4
    with pytest.raises(ValueError, match="is 31x40, smaller than 32x24"):
        Preparation((24, 32), "center-crop-wide")(image[:, :31])


@pytest.mark.parametrize(("channels", "expected"), [(1, [141]), (3, [100, 150, 200]), (4, [100, 150, 200, 255])])
def test_channels_are_converted(channels: int, expected: list[int]) -> None:
    image = np.full((4, 4, 3), [100, 150, 200], np.uint8)
    assert Preparation(channels=channels)(image)[0, 0].tolist() == expected


def test_white_stays_white_as_grey() -> None:
    assert luma(np.full((2, 2, 4), 255, np.uint8)).max() == 255
    assert luma(np.full((2, 2, 1), 7, np.uint8)).tolist() == [[[7], [7]], [[7], [7]]]


def test_a_transform_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="--transform center-crop needs --resolution"):
        Preparation(None, "center-crop")
    with pytest.raises(ValueError, match="wider than high"):
        Preparation((64, 32), "center-crop-wide")
