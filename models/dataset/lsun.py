"""LSUN's lmdb databases: JPEG or WebP files by keys."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from .sources import Source

DATA_FILE = "data.mdb"


def recognises(path: Path) -> bool:
    return (path / DATA_FILE).is_file()


def open_lmdb(path: Path, max_images: int | None = None) -> Source:
    """The images of a database, in the order of their keys; there are no labels.

    The library trusts its files, so a database should come from where one trusts, too.

    Args:
        path: The folder with data.mdb.
        max_images: Take the first so many.

    Raises:
        ModuleNotFoundError: The package lmdb is not installed.
        ValueError: The database cannot be opened.

    Source: F. Yu et al., "LSUN: Construction of a Large-scale Image Dataset using Deep Learning with Humans in the
        Loop", 2015.
    """
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("data: LSUN needs lmdb: pip install 'gankern[lsun]'") from error
    from ..training.decoding import decode

    try:
        database = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
        with database.begin() as transaction:
            keys = list(islice(transaction.cursor().iternext(keys=True, values=False), max_images))
    except lmdb.Error as error:
        raise ValueError(f"data: {path} is not a readable lmdb database ({error})") from error

    def load(index: int) -> np.ndarray:
        with database.begin() as transaction:
            return decode(transaction.get(keys[index], b""))

    return Source([key.decode("utf-8", "backslashreplace") for key in keys], load, None)
