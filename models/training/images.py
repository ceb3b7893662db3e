"""What every data set looks like from the outside: images of one size, counted from 0, with or without labels."""

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset


class ImageData(Dataset[Tensor]):
    """Square images of one size with optional labels.

    Args:
        name: Short name, used for run folders and messages.
        length: Number of images.
        resolution: Width and height in pixels, a power of two, at least 4.
        channels: 1 (grey) or 3 (RGB).
        labels: None, class numbers (int64 [length]) or label vectors (float32 [length, c_dim]).
    """

    in_memory = False

    def __init__(self, name: str, length: int, resolution: int, channels: int, labels: np.ndarray | None):
        if length < 1:
            raise ValueError(f"{name}: expected at least one image, got none")
        if resolution < 4 or resolution & (resolution - 1):
            raise ValueError(f"{name}: resolution must be a power of two of at least 4, got {resolution}")
        if labels is not None and len(labels) != length:
            raise ValueError(f"{name}: expected one label per image = {length}, got {len(labels)}")
        self.name = name
        self.length = length
        self.resolution = resolution
        self.channels = channels
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
        """Images [N]: uint8 [N, C, H, W]."""
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

    def without_labels(self) -> "ImageData":
        """The same images, unconditional."""
        self._set_labels(None)
        return self


class ImageArray(ImageData):
    """Images that are all in memory: `images` uint8 [N, C, H, W]."""

    in_memory = True

    def __init__(self, name: str, images: Tensor, labels: np.ndarray | None = None):
        super().__init__(name, len(images), images.shape[-1], images.shape[1], labels)
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
