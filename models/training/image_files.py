"""Data sets of image files: a folder, a zip file, or the tar shards of a webdataset."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .archives import LABEL_FILE, Archive, Folder, ZipArchive
from .decoding import EXTENSIONS, decode, pillow, with_channels
from .images import KINDS, ImageData
from .labels import by_folder, file_labels, folder_classes, folder_labels
from .webdataset import TarShards, find_shards


class ImageFiles(ImageData):
    """Images that are decoded when asked for.

    All images must be of one size. The first image decides between grey, RGB and RGBA: what another one has too little
    is added, grey is repeated and alpha opaque; alpha is dropped, and colour among grey refused.

    Args:
        path: Folder, .zip file, or tar shards as `find_shards` takes them.

    Raises:
        ValueError: A file cannot be decoded, or differs from the first one; it is named.
        FileNotFoundError: There is no such folder or file.
    """

    def __init__(self, path: str | Path):
        pillow()
        self.archive, self.files, labels, self.folders = open_archive(path)
        self.path = self.archive.path
        first = self._decode(self.files[0])  # [H, W, C]
        height, width, channels = first.shape
        super().__init__(self.path.absolute().stem, len(self.files), (height, width), channels, labels)

    def __getitem__(self, index: int) -> Tensor:
        file = self.files[index]
        pixels = self._decode(file)
        if pixels.shape[:2] != (self.height, self.width):
            want, got = f"{self.width}x{self.height}", f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise ValueError(f"data: {self._where(file)} must be {want} like {self.files[0]}, got {got}")
        try:
            pixels = with_channels(pixels, self.channels)
        except ValueError as error:
            kinds = f"{KINDS[self.channels]} like {self.files[0]}, got {KINDS[pixels.shape[2]]}"
            raise ValueError(f"data: {self._where(file)} must be {kinds}") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def fingerprint(self) -> str:
        """A hash of the files' names and versions; reading all of them could take longer than what it is for."""
        digest = hashlib.sha256(self.name.encode())
        for file in self.files:
            digest.update(f"{file} {self.archive.version(file)}\n".encode())
        return digest.hexdigest()

    def describe(self) -> str:
        return super().describe() + (by_folder(self.folders) if self.num_classes else "")

    def _where(self, file: str) -> str:
        return f"{self.path}/{file}"

    def _decode(self, file: str) -> np.ndarray:
        try:
            return decode(self.archive.read(file))
        except (ValueError, OSError) as error:
            if not self.path.exists():
                raise FileNotFoundError(f"data: {self.path} is no longer there, it was when it was opened") from error
            if str(error).startswith("data: "):  # names the file
                raise
            text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            raise ValueError(f"data: cannot read {self._where(file)} ({text})") from error


class Opened(NamedTuple):
    """Image files and their labels."""

    archive: Archive
    files: list[str]  # the images, in order
    labels: np.ndarray | None
    folders: list[str]  # in the order of the classes, where these are the folders that the images lie in


def open_archive(path: str | Path) -> Opened:
    """Opens a folder, a zip file or tar shards; no image is read."""
    shards, path = find_shards(str(path)), Path(path)
    if shards:
        tars = TarShards(shards)
        return Opened(tars, tars.names(), tars.labels, [])
    if path.is_dir():
        archive: Archive = Folder(path)
    elif path.suffix.lower() == ".zip" and path.is_file():
        archive = ZipArchive(path)
    else:
        raise FileNotFoundError(
            f"data: expected a folder, or a .zip, .tar or .gankern file, got {path}; `gankern dataset` reads others"
        )
    names = archive.names()
    images = [name for name in names if Path(name).suffix.lower() in EXTENSIONS]
    files = [name for name in images if not Path(name).name.startswith("._")]  # what macOS knows of the others
    if not files:
        raise ValueError(f"data: no image files in {path} (looked for {' '.join(sorted(EXTENSIONS))})")
    if LABEL_FILE in names:
        return Opened(archive, files, file_labels(archive, files), [])
    folders = folder_classes(files)
    return Opened(archive, files, folder_labels(files, folders) if folders else None, folders)
