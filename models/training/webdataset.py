"""Tar shards in the manner of webdataset, read at random places by an index of where each image lies.

The images of a sample and its label are neighbours in a tar: `000017.jpg`, `000017.cls` or `000017.json`, named alike
up to the first dot. The image's number counts through the shards in the order of their names, so that a run's order
does not depend on who reads. The index is made once, which reads every header, and kept beside the shards.
"""

import contextlib
import glob
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..metrics.feature_cache import default_folder
from .archives import OpenFile, check_size
from .decoding import EXTENSIONS
from .labels import label_array
from .tar import Entry, members

MAX_LABEL_BYTES = 2**20  # of a .cls or .json file
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 2**16
MAX_OPEN = 256  # shards that stay open; systems allow a process 1024 files or so
FORMAT = 1  # of the index


class TarShards:
    """The images of some tar files.

    Args:
        shards: The files, in order.

    Raises:
        ValueError: A file is no tar, or has what no data set needs; a sample has no image, or no label as others have.
    """

    def __init__(self, shards: list[Path]):
        self.path = shards[0] if len(shards) == 1 else _folder_of(shards)
        self.shards = [OpenFile(shard) for shard in shards]
        index = _load_index(shards) or _make_index(shards)
        self.places: dict[str, tuple[int, int, int]] = dict(zip(index["names"], map(tuple, index["places"].tolist())))
        labels = index["labels"]
        self.labels = label_array(labels, str(self.path)) if len(labels) else None

    def names(self) -> list[str]:
        """Shard and file of each image."""
        return list(self.places)

    def read(self, name: str) -> bytes:
        shard, offset, size = self.places[name]
        file = self.shards[shard]
        if len(self.shards) > MAX_OPEN:
            file = OpenFile(file.path)  # closed after this image
        return file.read(offset, size)

    def version(self, name: str) -> tuple[int, int]:
        """The file's place in its shard, and the time of the shard's last change."""
        shard, offset, _ = self.places[name]
        return offset, self.shards[shard].path.stat().st_mtime_ns


def find_shards(source: str) -> list[Path]:
    """The tar files of a source: `shards-{000..099}.tar`, a pattern with * or ?, a .tar file, or a folder of them.

    Raises:
        ValueError: There are none, or too many; or a folder has images beside its tar files.
        FileNotFoundError: One of a numbered row is missing.
    """
    if BRACES.search(source):
        shards = [Path(name) for name in _expanded(source)]
        missing = [str(shard) for shard in shards if not shard.is_file()]
        if missing:
            raise FileNotFoundError(f"data: {len(missing)} shards of {source} are missing, the first is {missing[0]}")
        return shards
    if source.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise ValueError(f"data: {source} is compressed, expected .tar: what is compressed has no random access")
    path = Path(source)
    if not path.exists() and re.search(r"[*?\[]", source):
        found = sorted(Path(name) for name in glob.glob(source))
        if not found or any(shard.suffix != ".tar" for shard in found):
            raise ValueError(f"data: expected {source} to match .tar files, got {len(found)} others")
        return found
    if not path.is_dir():
        return [path] if path.suffix == ".tar" and path.is_file() else []
    shards = sorted(path.glob("*.tar"))
    if shards:
        for file in path.iterdir():
            if file.suffix.lower() in EXTENSIONS or file.is_dir():
                raise ValueError(f"data: {path} has tar files and {file.name}, expected tar files or images, not both")
    return shards


def _folder_of(shards: list[Path]) -> Path:
    return Path(os.path.commonpath([shard.parent for shard in shards]))


def _expanded(source: str) -> Iterator[str]:
    """shards-{08..10}.tar to shards-08.tar, shards-09.tar, shards-10.tar; several braces count like digits."""
    texts = BRACES.split(source)  # text, first, last, text, ...
    rows = [range(int(first), int(last) + 1) for first, last in zip(texts[1::3], texts[2::3])]
    total = math.prod(max(row.stop - row.start, 0) for row in rows)
    if not 0 < total <= MAX_SHARDS:
        raise ValueError(f"data: expected {source} to name 1 to {MAX_SHARDS} shards, got {total}")
    for numbers in itertools.product(*rows):
        written = [f"{number:0{len(first)}d}" for number, first in zip(numbers, texts[1::3])]
        yield texts[0] + "".join(number + text for number, text in zip(written, texts[3::3]))


def _make_index(shards: list[Path]) -> dict[str, Any]:
    names, places, labels, folder = [], [], [], _folder_of(shards)
    for number, shard in enumerate(shards):
        with open(shard, "rb") as file:
            for image, label in _samples(members(file, shard), file, shard):
                check_size(image.size, f"{shard}/{image.name}")
                names.append(f"{shard.relative_to(folder).as_posix()}/{image.name}")
                places.append((number, image.offset, image.size))
                labels.append(label)
    where = shards[0] if len(shards) == 1 else folder
    if not names:
        raise ValueError(f"data: no image files in {where} (looked for {' '.join(sorted(EXTENSIONS))})")
    if len(set(names)) < len(names):
        raise ValueError(f"data: {where} has two files of one name")
    unlabelled = [name for name, label in zip(names, labels) if label is None]
    if unlabelled and len(unlabelled) < len(names):
        raise ValueError(f"data: {where}/{unlabelled[0]} has no label, but others have")
    array = np.empty(0) if unlabelled else label_array(labels, str(where))
    index = {"names": names, "places": np.array(places, np.int64), "labels": array}
    _save_index(shards, index)
    return index


def _samples(entries: Iterator[Entry], file: IO[bytes], shard: Path) -> Iterator[tuple[Entry, Any]]:
    """The image and the label, or None, of each sample of a shard."""

    def key(entry: Entry) -> str:
        folder, slash, name = entry.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    for sample, group in itertools.groupby(entries, key):
        parts = {entry.name[len(sample) :].lower(): entry for entry in group}
        images = [entry for extension, entry in parts.items() if extension in EXTENSIONS]
        if len(images) != 1:
            raise ValueError(f"data: {shard} must have one image of each sample, got {len(images)} of {sample!r}")
        label = None
        if ".cls" in parts:
            label = _parsed(file, parts[".cls"], shard)
        elif ".json" in parts:
            described = _parsed(file, parts[".json"], shard)
            label = described.get("label") if isinstance(described, dict) else None
        yield images[0], label


def _parsed(file: IO[bytes], entry: Entry, shard: Path) -> Any:
    if entry.size > MAX_LABEL_BYTES:
        raise ValueError(f"data: {shard}/{entry.name} must have at most {MAX_LABEL_BYTES} bytes, got {entry.size}")
    file.seek(entry.offset)
    try:
        return json.loads(file.read(entry.size))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"data: {shard}/{entry.name} is no label ({error})") from error


def _index_files(shards: list[Path]) -> list[Path]:
    """Where the index of these shards may lie: beside them, or in the cache."""
    folder = _folder_of(shards)
    beside, cached = [str(shard.relative_to(folder)) for shard in shards], [str(shard.absolute()) for shard in shards]
    return [folder / f".gankern-{_index_name(beside)}", default_folder() / _index_name(cached)]


def _index_name(names: list[str]) -> str:
    return f"index-{hashlib.sha256(json.dumps([FORMAT, names]).encode()).hexdigest()[:32]}.npz"


def _versions(shards: list[Path]) -> np.ndarray:
    """Size and time of the last change of each shard: int64 [shards, 2]."""
    return np.array([((status := shard.stat()).st_size, status.st_mtime_ns) for shard in shards], np.int64)


def _load_index(shards: list[Path]) -> dict[str, Any] | None:
    """The kept index; None where there is none of the shards as they are now."""
    versions = _versions(shards)
    for path in _index_files(shards):
        try:
            with np.load(path, allow_pickle=False) as archive:
                index = {name: archive[name] for name in ("places", "labels", "versions")}
                index["names"] = archive["names"].tobytes().decode("utf-8", "surrogateescape").split("\n")
        except Exception:  # whatever is wrong with it, it can be made anew
            continue
        places = index["places"]
        if places.dtype != np.int64 or places.shape != (len(index["names"]), 3) or (places < 0).any():
            continue
        if not np.array_equal(index["versions"], versions) or (places[:, 0] >= len(shards)).any():
            continue
        if (places[:, 1:].sum(1) <= versions[places[:, 0], 0]).all():
            return index
    return None


def _save_index(shards: list[Path], index: dict[str, Any]) -> None:
    names = np.frombuffer("\n".join(index["names"]).encode("utf-8", "surrogateescape"), np.uint8)
    arrays = {"names": names, "places": index["places"], "labels": index["labels"], "versions": _versions(shards)}
    for path in _index_files(shards):
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                np.savez(file, **arrays)
            unfinished.replace(path)
            return
        except OSError:  # a folder that is read only, or full
            with contextlib.suppress(OSError):
                unfinished.unlink()
