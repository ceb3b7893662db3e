"""A file of any kind, as nested dictionaries, lists and tensors; what classes it names is in `OBJECTS`."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import IO, Any

from .numpy_pickle import NUMPY
from .restricted_pickle import CONTAINERS, Function, as_dict, stub, unpickle
from .torch_file import TORCH, is_legacy, read_legacy, read_zip

NEEDS_SAFETENSORS = "convert: .safetensors files need the library of that name: pip install 'gankern[convert]'"
MAX_BYTES = 16 << 30  # far more than any published checkpoint has
PICKLES = (b"\x80", b"(", b"}", b"]", b"c")  # how they begin: a protocol; a tuple, a dictionary, a list, a name
PARTS = (".pth", ".pt", ".bin", ".safetensors", ".json")  # of a folder of files that belong together

# Classes and functions of published code, of which the files keep objects. Nothing of them is run.
PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
TENSORFLOW_NETWORKS = ("tfutil.Network", "dnnlib.tflib.network.Network")
DICTIONARIES = ("dnnlib.util.EasyDict", "dnnlib.EasyDict", "dnnlib.submission.submit.EasyDict", "config.EasyDict")
OBJECTS: dict[str, Any] = {
    **{name: stub(name) for name in (PERSISTENT, *TENSORFLOW_NETWORKS)},
    **{name: Function(as_dict) for name in DICTIONARIES},
    "argparse.Namespace": stub("argparse.Namespace"),
    "models.utils.config.BaseConfig": stub("models.utils.config.BaseConfig"),
}
KNOWN = {**CONTAINERS, **NUMPY, **TORCH, **OBJECTS}


def read(path: Path) -> Any:
    """What a file holds, or a folder as a dictionary of what its files hold, by their names.

    Raises:
        ValueError: It is empty, truncated, damaged, too large, no checkpoint, or holds something that is not data.
        FileNotFoundError: There is no such file.
    """
    if path.is_dir():
        return _read_folder(path)
    size = path.stat().st_size
    if size == 0:
        raise ValueError("the file is empty")
    if size > MAX_BYTES:
        raise ValueError(f"the file has {size / 2**30:.0f} GiB, expected at most {MAX_BYTES >> 30}")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _read(path, content, size)  # type: ignore[arg-type]
        except (ValueError, RecursionError, MemoryError) as error:
            raise ValueError(str(error) or type(error).__name__) from error


def _read(path: Path, file: IO[bytes], size: int) -> Any:
    head = file.read(512)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        with path.open("rb") as seekable:  # which a memory map is not
            return read_zip(seekable, size, KNOWN)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _read_safetensors(path)
    if head.lstrip()[:1] == b"<":
        raise ValueError("this is a web page, not a checkpoint; was it downloaded through a link to a page?")
    if head.startswith(b"version https://git-lfs"):
        raise ValueError("this is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    if path.suffix == ".json":
        return json.loads(file.read())
    if head[:1] not in PICKLES:
        raise ValueError(f"this is no checkpoint; it begins with {head[:8]!r}")
    if is_legacy(file):
        return read_legacy(file, size, KNOWN)
    content = unpickle(file, KNOWN)
    if file.read(1):
        raise ValueError("something follows the pickle")
    return content


def _read_folder(path: Path) -> dict[str, Any]:
    """Every file of a checkpoint in parts; states of optimisers are left where they are."""
    parts = [part for part in sorted(path.iterdir()) if part.suffix in PARTS and "optim" not in part.name]
    if all(part.suffix == ".json" for part in parts):
        raise ValueError(f"this is a folder without a checkpoint ({', '.join('*' + suffix for suffix in PARTS)})")
    return {part.name: read(part) for part in parts}


def _read_safetensors(path: Path) -> dict[str, Any]:
    """{"tensors": by key, "metadata": by name}."""
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NEEDS_SAFETENSORS) from error
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dictionary
            return {"tensors": tensors, "metadata": file.metadata() or {}}
    except SafetensorError as error:
        raise ValueError(f"the file is truncated or damaged ({error})") from error
