"""Where image files lie: in a folder or in a zip file, which may be anybody's.

Nothing is ever written to where a name in an archive points. All the same a name that leads out of it, or a link,
is no part of a data set, and the archive is refused as a whole.
"""

import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Protocol

MAX_BYTES = 2**29  # of one file: what lies in archives is read at once
MAX_RATIO = 100  # of a deflated member's size to its compressed size, where it is larger than
RATIO_FROM = 2**20  # bytes
LOCAL_HEADER = 30  # bytes, before a member's name, extra field and data
LABEL_FILE = "dataset.json"


class Archive(Protocol):
    """Named files that are read one at a time, by any number of processes and threads."""

    path: Path

    def names(self) -> list[str]:
        """The names of all files, in the order of the data set, with forward slashes."""

    def read(self, name: str) -> bytes: ...

    def version(self, name: str) -> tuple[int, int]:
        """Changes with the file."""


class Folder:
    """The files below one folder, named by their path inside it. Links to files are followed."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        found, folders = [], [""]
        while folders:
            prefix = folders.pop()
            with os.scandir(self.path / prefix) as entries:
                for entry in entries:
                    name = f"{prefix}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{name}/")
                    elif _is_file(entry):
                        found.append(name)
                    elif entry.is_symlink():
                        raise ValueError(
                            f"data: {self.path}/{name} is a link to {os.readlink(entry.path)}, expected one to a file: "
                            "links to folders are not followed, for they can go round in circles"
                        )
        return sorted(found)

    def read(self, name: str) -> bytes:
        with open(self.path / name, "rb") as file:
            check_size(os.fstat(file.fileno()).st_size, f"{self.path}/{name}")
            return file.read()

    def version(self, name: str) -> tuple[int, int]:
        """Its size and the time of its last change."""
        status = (self.path / name).stat()
        return status.st_size, status.st_mtime_ns


class OpenFile:
    """A file that is read at given places: it has no position, so processes and threads may share it."""

    def __init__(self, path: Path):
        self.path = path
        self.descriptor: int | None = None

    def size(self) -> int:
        return os.fstat(self._open()).st_size

    def read(self, offset: int, length: int) -> bytes:
        size = self.size()
        if offset < 0 or offset + length > size:  # before memory is taken
            raise ValueError(f"data: {self.path} ends at byte {size}, expected {length} bytes at {offset}")
        content = bytearray(length)
        self.read_into(offset, memoryview(content))
        return bytes(content)

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fills `target`, bytes, with no copy between."""
        done = 0
        while done < len(target):
            count = os.preadv(self._open(), [target[done:]], offset + done)
            if not count:
                raise ValueError(f"data: {self.path} ends at byte {offset + done}, expected more")
            done += count

    def _open(self) -> int:
        if self.descriptor is None:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self.descriptor

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "descriptor": None}

    def __del__(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)


class ZipArchive:
    """The members of one zip file, stored or deflated."""

    def __init__(self, path: Path):
        self.path = path
        self.file = OpenFile(path)
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        except FileNotFoundError:
            raise
        except Exception as error:  # a forged directory makes zipfile raise about any type of exception
            raise ValueError(f"data: {path} is not a readable zip file ({error})") from error
        for name, info in self.members.items():
            check_name(name, path)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise ValueError(f"data: {path} has the link {name!r}, expected files only")

    def names(self) -> list[str]:
        return sorted(self.members)

    def read(self, name: str) -> bytes:
        info = self.members[name]
        where = f"{self.path}/{name}"
        check_size(info.file_size, where)
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"data: {where} is encrypted or compressed in a rare way, expected stored or deflated")
        if info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size):
            raise ValueError(f"data: {where} would grow from {info.compress_size} to {info.file_size} bytes, refused")
        header = self.file.read(info.header_offset, LOCAL_HEADER)
        name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = info.header_offset + LOCAL_HEADER + name_length + extra_length
        content = self.file.read(start, info.compress_size)
        if info.compress_type == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, info.file_size + 1)
            except zlib.error as error:
                raise ValueError(f"its compressed data are damaged: {error}") from error
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise ValueError("its size or checksum is not that of the zip file's directory")
        return content

    def version(self, name: str) -> tuple[int, int]:
        """Its size and checksum."""
        info = self.members[name]
        return info.file_size, info.CRC


def check_name(name: str, archive: Path) -> None:
    """Refuses the name of a member that leads out of its archive."""
    path = name.replace("\\", "/")
    absolute = path.startswith("/") or path[1:2] == ":"
    if absolute or ".." in path.split("/") or any(letter in name for letter in "\0\n"):
        raise ValueError(f"data: {archive} has a file of the name {name[:200]!r}, which leads out of it: refused")


def check_size(size: int, where: str) -> None:
    if size > MAX_BYTES:
        raise ValueError(f"data: {where} must have at most {MAX_BYTES} bytes, got {size}")


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False
