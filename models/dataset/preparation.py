"""What is done to each image: cut, resized, in another number of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..training.decoding import with_channels

TRANSFORMS = ("center-crop", "center-crop-wide")
FILTERS = ("lanczos", "box")


@dataclass(frozen=True)
class Preparation:
    """What is done to every image.

    Args:
        size: (height, width) of the images; None leaves them as they are.
        transform: None: each is stretched to the size. `center-crop`: the largest centred part of the size's
            proportions is cut out. `center-crop-wide`: likewise from images of at least the size, and black bars above
            and below make it square.
        resize_filter: `lanczos`, or `box`, the mean of the pixels that fall on one.
        channels: 1, 3 or 4; None leaves them. Colour becomes grey as its luma, 0.299 R + 0.587 G + 0.114 B.
    """

    size: tuple[int, int] | None = None
    transform: str | None = None
    resize_filter: str = "lanczos"
    channels: int | None = None

    def __post_init__(self) -> None:
        if self.transform is not None and self.size is None:
            raise ValueError(f"--transform {self.transform} needs --resolution")
        if self.transform == "center-crop-wide" and self.size is not None and self.size[0] > self.size[1]:
            raise ValueError(f"--transform center-crop-wide needs a resolution wider than high, got {self.size[::-1]}")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """From uint8 [H, W, C] to uint8 [h, w, C].

        Raises:
            ValueError: center-crop-wide would have to enlarge it.
        """
        if self.channels is not None:
            pixels = luma(pixels) if self.channels == 1 else with_channels(pixels, self.channels)
        if self.size is None:
            return pixels
        height, width = self.size
        wide = self.transform == "center-crop-wide"
        if wide and (pixels.shape[0] < height or pixels.shape[1] < width):
            raise ValueError(f"is {pixels.shape[1]}x{pixels.shape[0]}, smaller than {width}x{height}")
        if self.transform is not None:
            pixels = center_crop(pixels, height / width)
        pixels = resize(pixels, self.size, self.resize_filter)
        if not wide:
            return pixels
        above = (width - height) // 2
        return np.pad(pixels, [(above, width - height - above), (0, 0), (0, 0)])


def luma(pixels: np.ndarray) -> np.ndarray:
    """Grey uint8 [H, W, 1] of uint8 [H, W, C].

    Source: ITU-R BT.601, 2.5.1, luma.
    """
    if pixels.shape[2] == 1:
        return pixels
    grey = pixels[:, :, :3] @ np.array([0.299, 0.587, 0.114])  # [H, W]
    return grey.round().astype(np.uint8)[:, :, None]


def center_crop(pixels: np.ndarray, proportion: float) -> np.ndarray:
    """The largest centred part of [H, W, C] whose height is `proportion` times its width."""
    height, width = pixels.shape[:2]
    h, w = min(height, max(round(width * proportion), 1)), min(width, max(round(height / proportion), 1))
    top, left = (height - h) // 2, (width - w) // 2
    return pixels[top : top + h, left : left + w]


def resize(pixels: np.ndarray, size: tuple[int, int], resize_filter: str) -> np.ndarray:
    """Resizes uint8 [H, W, C], C = 1, 3 or 4, to `size` = (height, width)."""
    from PIL import Image

    if pixels.shape[:2] == size:
        return pixels
    method = {"lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX}[resize_filter]
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.array(image.resize(size[::-1], method)).reshape(*size, -1)
