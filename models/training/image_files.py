"""Images from a folder or a zip file, with StyleGAN2-ADA's dataset.json for labels."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from .images import ImageData

EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
LABEL_FILE = "dataset.json"


class Folder:
    """The files below one folder, named by their path inside it, with forward slashes."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        return sorted(p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def version(self, name: str) -> tuple[int, int]:
        """Changes with the file: its size and the time of its last change."""
        status = (self.path / name).stat()
        return status.st_size, status.st_mtime_ns


class ZipArchive:
    """The members of one zip file, stored or deflated; each process opens its own handle."""

    def __init__(self, path: Path):
        self.path = path
        self.handle: zipfile.ZipFile | None = None
        self.owner = 0

    def names(self) -> list[str]:
        return sorted(info.filename for info in self._open().infolist() if not info.is_dir())

    def read(self, name: str) -> bytes:
        return self._open().read(name)

    def version(self, name: str) -> tuple[int, int]:
        """Changes with the member: its size and checksum."""
        info = self._open().getinfo(name)
        return info.file_size, info.CRC

    def _open(self) -> zipfile.ZipFile:
        if self.handle is None or self.owner != os.getpid():  # a forked worker must not share the file position
            try:
                self.handle, self.owner = zipfile.ZipFile(self.path), os.getpid()
            except zipfile.BadZipFile as error:
                raise ValueError(f"data: {self.path} is not a readable zip file ({error})") from error
        return self.handle

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "handle": None, "owner": 0}


class ImageFiles(ImageData):
    """Images of a folder or zip file, read when asked for.

    All images must be of one size. The first image decides between grey and RGB: an alpha
    channel is dropped, grey among RGB is repeated, colour among grey is refused.

    Args:
        path: Folder or .zip file.

    Raises:
        ValueError: A file cannot be decoded, or differs from the first one; it is named.
    """

    def __init__(self, path: str | Path):
        _pillow()
        path = Path(path)
        if path.is_dir():
            self.archive: Folder | ZipArchive = Folder(path)
        elif path.suffix.lower() == ".zip" and path.is_file():
            self.archive = ZipArchive(path)
        else:
            raise FileNotFoundError(f"data: expected a folder or a .zip file, got {path}")
        names = self.archive.names()
        self.path = path
        self.files = [n for n in names if Path(n).suffix.lower() in EXTENSIONS and not n.startswith("__MACOSX/")]
        if not self.files:
            raise ValueError(f"data: no image files in {path} (looked for {' '.join(sorted(EXTENSIONS))})")
        first = self._decode(self.files[0])  # [C, H, W]
        labels = _read_labels(self.archive, self.files, self.path) if LABEL_FILE in names else None
        super().__init__(path.stem, len(self.files), (first.shape[1], first.shape[2]), first.shape[0], labels)

    def __getitem__(self, index: int) -> Tensor:
        file = self.files[index]
        image = self._decode(file)  # [C, H, W]
        if image.shape[1:] != (self.height, self.width):
            got = "x".join(str(n) for n in reversed(image.shape[1:]))
            want = f"{self.width}x{self.height}"
            raise ValueError(f"data: {self._where(file)} must be {want} like {self.files[0]}, got {got}")
        if image.shape[0] == 1 and self.channels == 3:
            image = image.repeat(3, 1, 1)
        if image.shape[0] != self.channels:
            raise ValueError(f"data: {self._where(file)} must be grey like {self.files[0]}, got colour")
        return image

    def fingerprint(self) -> str:
        """A hash of the files' names and versions; reading all of them could take longer than what it is for."""
        digest = hashlib.sha256(self.name.encode())
        for file in self.files:
            digest.update(f"{file} {self.archive.version(file)}\n".encode())
        return digest.hexdigest()

    def _where(self, file: str) -> str:
        return f"{self.path}/{file}"

    def _decode(self, file: str) -> Tensor:
        try:
            with _pillow().open(io.BytesIO(self.archive.read(file))) as image:
                mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
                if image.mode[0] in "IF":
                    raise ValueError(f"{image.mode} pixels (16 bits or more) are not supported, convert to 8 bits")
                pixels = np.array(image.convert(mode))  # [H, W] or [H, W, 3]
        except Exception as error:  # a damaged file makes Pillow and zipfile raise about any type of exception
            raise ValueError(f"data: cannot read {self._where(file)} ({type(error).__name__}: {error})") from error
        return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1).contiguous()


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("data: image files need Pillow: pip install 'gankern[train]'") from error
    return Image


def _read_labels(archive: Folder | ZipArchive, files: list[str], path: Path) -> np.ndarray | None:
    """dataset.json = {"labels": [[file, int | [float, ...]], ...] | null} to int64 [N] or float32 [N, c_dim]."""
    where = f"{path}/{LABEL_FILE}"
    try:
        entries = json.loads(archive.read(LABEL_FILE)).get("labels")
        if entries is None:
            return None
        by_file = {str(name).replace("\\", "/"): label for name, label in entries}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f'data: {where} must be {{"labels": [[file, label], ...]}} ({error})') from error
    for file in files:
        if file not in by_file:
            raise ValueError(f"data: {where} has no label for {file}")
    try:
        labels = np.array([by_file[file] for file in files])
    except ValueError as error:
        raise ValueError(f"data: {where} mixes labels of different lengths ({error})") from error
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0:
        return labels.astype(np.int64)
    if labels.ndim == 2 and np.issubdtype(labels.dtype, np.number):
        return labels.astype(np.float32)
    raise ValueError(f"data: {where} labels must be integers from 0 up, or lists of numbers of one length")
