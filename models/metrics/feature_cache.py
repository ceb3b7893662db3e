"""Keeps what was measured of real images in files, so that the next evaluation does not measure it again.

A file's name is a hash of everything that decides its contents: the data, the extractor with its preprocessing, and
how many images of which size. So nothing has to be invalidated; the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FORMAT = 1  # of the files


def default_folder() -> Path:
    """$GANKERN_CACHE, or gankern below the user's cache folder."""
    if "GANKERN_CACHE" in os.environ:
        return Path(os.environ["GANKERN_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "gankern"


def cache_path(folder: Path, **decides: Any) -> Path:
    """The file for something that depends on the named values, which must be fit for JSON."""
    text = json.dumps({"format": FORMAT, **decides}, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.pt"


def load_cached(path: Path) -> dict[str, Tensor] | None:
    """The tensors in a file of the cache; None if there is no such file."""
    return torch.load(path, weights_only=True) if path.exists() else None


def save_cached(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes tensors to a file of the cache, all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(tensors, unfinished)
    unfinished.replace(path)
