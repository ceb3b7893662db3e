"""What every data set looks like from the outside: images of one size, counted from 0, with or without labels."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}  # of images, by their channels
LARGEST_BASE = 16  # pixels; what lies before the first doubling is one dense layer, which grows with its area


def nominal(height: int, width: int) -> tuple[int, tuple[int, int]]:
    """Resolution and base size of the networks that make images of a size.

    Networks begin at a base size and double it, 4x4 for square images of a power of two: size = base_size * 2^k. Here
    k is as large as it can be while a side of the base has 4 pixels, and the resolution is 4 * 2^k, so that size =
    base_size * resolution / 4. 48x64 has the base (3, 4) and the resolution 64, 96x160 (3, 5) and 128.

    Args:
        height: In pixels.
        width: In pixels.

    Returns:
        The resolution, a power of two of at least 4; and the base's (height, width).

    Raises:
        ValueError: No side has 4 pixels, or the base would be larger than 16 pixels, as that of 1080x1920.
    """
    factor = 1
    while height % (2 * factor) == 0 and width % (2 * factor) == 0 and max(height, width) >= 8 * factor:
        factor *= 2
    base = (height // factor, width // factor)
    if min(base) < 1 or not 4 <= max(base) <= LARGEST_BASE:
        raise ValueError(
            f"expected images of k * 2^n pixels, k at most {LARGEST_BASE}, such as 64x64, 96x96 or 192x256, "
            f"got {width}x{height} (width x height)"
        )
    return 4 * factor, base


class ImageData(Dataset[Tensor]):
    """Images of one size with optional labels.

    Args:
        name: Short name, used for run folders and messages.
        length: Number of images.
        size: (height, width) in pixels, such as `nominal` takes; of that are the attributes `resolution`, the nominal
            one, and `base_size`.
        channels: 1 (grey), 3 (RGB) or 4 (RGB and alpha).
        labels: None, class numbers (int64 [length]) or label vectors (float32 [length, c_dim]).
    """

    in_memory = False

    def __init__(self, name: str, length: int, size: tuple[int, int], channels: int, labels: np.ndarray | None):
        if length < 1:
            raise ValueError(f"{name}: expected at least one image, got none")
        if channels not in KINDS:
            raise ValueError(f"{name}: channels must be 1, 3 or 4, got {channels}")
        if labels is not None and len(labels) != length:
            raise ValueError(f"{name}: expected one label per image = {length}, got {len(labels)}")
        self.name = name
        self.length = length
        self.height, self.width = size
        self.channels = channels
        try:
            self.resolution, self.base_size = nominal(*size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self._set_labels(labels)

    def _set_labels(self, labels: np.ndarray | None) -> None:
        self.labels = labels
        self.num_classes: int | None = None  # None where there are no class numbers
        self.c_dim = 0  # width of the label vectors c
        if labels is not None and labels.ndim == 1:
            self.num_classes = self.c_dim = int(labels.max()) + 1
        elif labels is not None:
            self.c_dim = labels.shape[1]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Image number `index`: uint8 [C, H, W]."""
        raise NotImplementedError

    def read(self, indices: np.ndarray) -> Tensor:
        """Images [N]: uint8 [N, C, H, W], the caller's own."""
        return torch.stack([self[int(i)] for i in indices])

    def encode_labels(self, indices: np.ndarray) -> Tensor:
        """Label vectors of the images `indices` [N]: float32 [N, c_dim], one-hot for class numbers."""
        if self.labels is None:
            return torch.zeros(len(indices), 0)
        labels = torch.from_numpy(self.labels[indices])
        if labels.ndim == 2:
            return labels
        return torch.zeros(len(indices), self.c_dim).scatter_(1, labels[:, None], 1.0)

    def fingerprint(self) -> str:
        """A hash in hexadecimal that changes with the images."""
        digest = hashlib.sha256(f"{self.name} {len(self)}".encode())
        for first in range(0, len(self), 1024):
            digest.update(self.read(np.arange(first, min(first + 1024, len(self)))).numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """How many images of which size and kind, and how many classes."""
        size = f"{len(self)} images, {self.width}x{self.height} {KINDS[self.channels]}"
        if self.num_classes:
            return f"{size}, {self.num_classes} classes"
        return f"{size}, labels of {self.c_dim} numbers" if self.c_dim else size

    def without_labels(self) -> "ImageData":
        """The same images, unconditional."""
        self._set_labels(None)
        return self


class ImageArray(ImageData):
    """Images that are all in memory: `images` uint8 [N, C, H, W]."""

    in_memory = True

    def __init__(self, name: str, images: Tensor, labels: np.ndarray | None = None):
        super().__init__(name, len(images), (images.shape[2], images.shape[3]), images.shape[1], labels)
        self.images = images

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]

    def read(self, indices: np.ndarray) -> Tensor:
        return self.images[torch.from_numpy(indices)]


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [-1, 1]: x / 127.5 - 1."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float [-1, 1] to uint8 [0, 255], rounded and clamped."""
    return (images.to(torch.float32) * 127.5 + 127.5).round_().clamp_(0, 255).to(torch.uint8)
