"""Files of `torch.save`, both kinds, and tensors within pickles, without PyTorch's own unpickling."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import torch
from torch import Tensor

from .restricted_pickle import Function, unpickle

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle of a file from before there were zip files
PROTOCOL_VERSION = 1001

STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}


class Storage:
    """Consecutive numbers that tensors are views of."""

    def __init__(self, numbers: Tensor) -> None:
        self.numbers = numbers  # [numel]


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor within a storage; one that repeats its numbers, and so could be of any size, is refused."""
    sizes = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) and 0 <= n < 2**62 for n in sizes):
        raise ValueError("a tensor is damaged")
    numel = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if numel else 0
    if max(numel - 1, last) >= max(len(storage.numbers), 1):
        raise ValueError(f"a tensor of shape {list(size)} is larger than its storage of {len(storage.numbers)} numbers")
    try:
        return storage.numbers.as_strided(size, stride, offset) if numel else storage.numbers[:0].reshape(size)
    except RuntimeError as error:  # the shape of no elements has an absurd dimension
        raise ValueError(f"a tensor of shape {list(size)} is damaged") from error


def rebuild_parameter(data: Any, *_: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise ValueError("a parameter is no tensor")
    return data


def storage_from_bytes(data: Any) -> Storage:
    """A storage as plain pickles hold it: as the bytes of a file of its own, which holds no further one."""
    if not isinstance(data, bytes):
        raise ValueError("a storage is damaged")
    storage = read_legacy(io.BytesIO(data), len(data), STORAGES)
    if not isinstance(storage, Storage):
        raise ValueError("a storage's file holds something else")
    return storage


TORCH: dict[str, Any] = {
    **STORAGES,
    "torch._utils._rebuild_tensor": Function(rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": Function(rebuild_tensor),
    "torch._utils._rebuild_parameter": Function(rebuild_parameter),
    "torch.storage._load_from_bytes": Function(storage_from_bytes),
    "torch.Size": Function(lambda sizes=(): tuple(sizes)),
    "torch.device": Function(lambda *_: "cpu"),
    **{f"torch.{str(dtype).removeprefix('torch.')}": dtype for dtype in STORAGES.values()},
}


def is_legacy(file: IO[bytes]) -> bool:
    """Whether a file begins as those of torch.save did before they were zip files; the position is kept."""
    start = file.tell()
    head = file.read(64)
    file.seek(start)
    try:
        return unpickle(io.BytesIO(head), {}) == MAGIC_NUMBER
    except ValueError:
        return False


def read_legacy(file: IO[bytes], size: int, known: Mapping[str, Any]) -> Any:
    """The content of a file of torch.save from before version 1.6, or of a storage in a pickle.

    Args:
        file: At its beginning.
        size: Its length in bytes, which its tensors cannot exceed.
        known: See `unpickle`.
    """
    if (unpickle(file, {}), unpickle(file, {})) != (MAGIC_NUMBER, PROTOCOL_VERSION):
        raise ValueError("this is no file of torch.save")
    _refuse_big_endian(unpickle(file, {}))
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        dtype, key, numel = _storage_id(identity)
        if len(identity) > 5 and identity[5] is not None:
            raise ValueError("a storage is part of another one, which no known checkpoint needs")
        if key not in storages:
            taken = sum(storage.numbers.nbytes for storage in storages.values())
            if taken + numel * dtype.itemsize > size:
                raise ValueError(f"a storage of {numel} numbers is larger than the file")
            storages[key] = Storage(torch.empty(numel, dtype=dtype))
        return storages[key]

    content = unpickle(file, known, persistent)
    keys = unpickle(file, {})
    if not isinstance(keys, list) or set(keys) != set(storages):
        raise ValueError("the list of storages does not agree with the tensors")
    for key in keys:
        numbers = storages[key].numbers
        if int.from_bytes(file.read(8), "little") != len(numbers):
            raise ValueError("the file is truncated or damaged: a storage has another length")
        raw = file.read(numbers.nbytes)
        if len(raw) != numbers.nbytes:
            raise ValueError("the file is truncated: a storage is not complete")
        numbers.copy_(_numbers(bytearray(raw), numbers.dtype))
    return content


def read_zip(file: IO[bytes], size: int, known: Mapping[str, Any]) -> Any:
    """The content of a file of torch.save since version 1.6; arguments as in `read_legacy`."""
    try:
        archive = zipfile.ZipFile(file)
        entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise ValueError(f"the file is truncated or damaged ({error})") from error
    if any(name.endswith("/constants.pkl") for name in entries):
        raise ValueError("this is a TorchScript program, not a checkpoint")
    packed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
    if packed or sum(entry.file_size for entry in entries.values()) > size:
        raise ValueError("this is no file of torch.save: its content is compressed")
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("this zip file is no file of torch.save: it has no data.pkl")
    root = roots[0]

    def part(name: str) -> bytes:
        try:
            return archive.read(f"{root}{name}")
        except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"the file is damaged: {name[:80]} ({str(error)[:100]})") from error

    if f"{root}byteorder" in entries and part("byteorder") != b"little":
        raise ValueError("the file's numbers are big endian, expected little endian")
    storages: dict[str, Storage] = {}

    def persistent(identity: Any) -> Storage:
        dtype, key, numel = _storage_id(identity)
        if key not in storages:
            raw = bytearray(part(f"data/{key}"))
            if len(raw) != numel * dtype.itemsize:
                raise ValueError(f"the file is damaged: storage {key[:40]} has {len(raw)} bytes")
            storages[key] = Storage(_numbers(raw, dtype))
        if storages[key].numbers.dtype != dtype:
            raise ValueError(f"storage {key[:40]} has two types of numbers")
        return storages[key]

    return unpickle(io.BytesIO(part("data.pkl")), known, persistent)


def _storage_id(identity: Any) -> tuple[torch.dtype, str, int]:
    """(dtype, key, number of elements) of what torch.save keeps outside its pickle."""
    is_storage = isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"
    if not is_storage or not isinstance(identity[1], torch.dtype) or not isinstance(identity[2], str):
        raise ValueError("the pickle refers to something that is no storage")
    if not isinstance(identity[4], int) or identity[4] < 0:
        raise ValueError("a storage has no length")
    return identity[1], identity[2], identity[4]


def _numbers(raw: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _refuse_big_endian(system: Any) -> None:
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("the file's numbers are not little endian, or it is damaged")
