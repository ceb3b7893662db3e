"""The files in an uncompressed tar, found without reading them."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from .archives import check_name

BLOCK = 512  # bytes
END = bytes(BLOCK)
MAX_HEADER_BYTES = 2**20  # of a long name or an extended header
LONG_NAME, PAX, PAX_OF_ALL = b"L", b"x", b"g"  # headers that precede the one they belong to


class Entry(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int
    size: int


def members(file: IO[bytes], path: Path) -> Iterator[Entry]:
    """The files of an uncompressed tar, by its headers alone.

    Args:
        file: The tar; its position may be changed between two files.
        path: Names it in errors.

    Raises:
        ValueError: It is damaged or ends too early; a name leads out of it; or it has links or devices.

    Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar's long names.
    """
    length, at, long_name, size_of_next = file.seek(0, os.SEEK_END), 0, "", None
    while at < length:
        file.seek(at)
        block = file.read(BLOCK)
        if block == END:
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"data: {path} has a damaged header at byte {at}, or is no tar file ({error})") from error
        size = header.size if size_of_next is None or header.type in (LONG_NAME, PAX) else size_of_next
        start = at + BLOCK
        if size < 0 or start + size > length:
            raise ValueError(f"data: {path} ends at byte {length}, expected {size} bytes of {header.name!r} at {start}")
        at = start + -(-size // BLOCK) * BLOCK
        if header.type in (LONG_NAME, PAX, PAX_OF_ALL):
            if size > MAX_HEADER_BYTES:
                raise ValueError(f"data: {path} has a header of {size} bytes, expected at most {MAX_HEADER_BYTES}")
            if header.type == LONG_NAME:
                long_name = file.read(size).rstrip(b"\0").decode("utf-8", "surrogateescape")
            elif header.type == PAX:
                records = _pax_records(file.read(size), path)
                long_name = records.get("path", long_name)
                size_of_next = int(records["size"]) if records.get("size", "").isdigit() else None
            continue
        name, long_name, size_of_next = long_name or header.name, "", None
        check_name(name, path)
        if header.isreg() and header.type != tarfile.GNUTYPE_SPARSE:
            yield Entry(name.removeprefix("./"), start, size)
        elif not header.isdir():
            raise ValueError(f"data: {path} has {name!r}, a link, device or file with holes, expected plain files")
    raise ValueError(f"data: {path} has no end mark: it is truncated, or empty")


def _pax_records(content: bytes, path: Path) -> dict[str, str]:
    """The records `length key=value` of an extended header."""
    records = {}
    while content.strip(b"\0"):
        digits = content.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if not len(digits) + 1 < length <= len(content):
            raise ValueError(f"data: {path} has a damaged extended header")
        key, _, value = content[len(digits) + 1 : length - 1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        content = content[length:]
    return records
