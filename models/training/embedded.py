"""The data sets that need no download: the digits beside this file, and crops of scikit-image's CC0 photographs."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .images import ImageArray, ImageData

DIGITS_RESOLUTIONS = (8, 16, 32)
PHOTO_FILES = ("brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png")
PHOTO_RESOLUTIONS = (16, 32, 64, 128, 256)
CROPS_PER_PHOTO = 1000


def digits(resolution: int = 32) -> ImageArray:
    """1,797 real scans of handwritten digits, 10 classes, grey, enlarged bicubically from 8x8.

    Args:
        resolution: 8, 16 or 32.

    Returns:
        Data set of uint8 [1797, 1, resolution, resolution] with class numbers 0..9.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
        1998, doi 10.24432/C50P49, CC BY 4.0 (see DIGITS.md).
    """
    _check_resolution("digits", resolution, DIGITS_RESOLUTIONS)
    with np.load(Path(__file__).with_name("digits.npz")) as archive:
        scans, labels = archive["images"], archive["labels"]
    x = torch.from_numpy(scans).float()[:, None] * (255 / 16)  # [1797, 1, 8, 8]
    if resolution > 8:
        x = F.interpolate(x, size=(resolution, resolution), mode="bicubic", align_corners=False)
    images = x.round().clamp(0, 255).to(torch.uint8)  # [1797, 1, R, R]
    return ImageArray("digits", images, labels.astype(np.int64))


class PhotoCrops(ImageData):
    """Square crops of photographs at their own scale; the class of a crop is its photograph."""

    in_memory = True

    def __init__(self, photos: list[Tensor], resolution: int):
        labels = np.arange(len(photos) * CROPS_PER_PHOTO, dtype=np.int64) % len(photos)
        super().__init__("photos", len(labels), (resolution, resolution), 3, labels)
        self.photos = photos
        self.corners = np.random.RandomState(0).random_sample((len(labels), 2))  # where each crop lies, in [0, 1)

    def __getitem__(self, index: int) -> Tensor:
        photo = self.photos[index % len(self.photos)]  # [3, H, W]
        room = np.array(photo.shape[1:]) - self.resolution + 1
        top, left = (self.corners[index] * room).astype(int)
        return photo[:, top : top + self.resolution, left : left + self.resolution]


def photos(resolution: int = 128) -> PhotoCrops:
    """6,000 RGB crops of the six CC0 photographs in scikit-image's wheel, for throughput and larger sizes.

    Args:
        resolution: 16, 32, 64, 128 or 256.

    Raises:
        ModuleNotFoundError: scikit-image is not installed (extra `photos`).
    """
    _check_resolution("photos", resolution, PHOTO_RESOLUTIONS)
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("photos: needs scikit-image, which carries them: pip install 'gankern[photos]'")
    from PIL import Image  # scikit-image requires Pillow

    folder = Path(spec.submodule_search_locations[0]) / "data"
    loaded = []
    for file in PHOTO_FILES:
        with Image.open(folder / file) as image:
            loaded.append(torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous())
    return PhotoCrops(loaded, resolution)


def _check_resolution(name: str, resolution: int, allowed: tuple[int, ...]) -> None:
    if resolution not in allowed:
        raise ValueError(f"{name}: resolution must be one of {', '.join(map(str, allowed))}, got {resolution}")
