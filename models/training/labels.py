"""Labels of image files: of StyleGAN2-ADA's dataset.json, or of the folders that the images lie in."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from .archives import LABEL_FILE, Archive, check_name

MAX_CLASSES = 2**20  # a label is a vector of so many numbers while it trains
MAX_NUMBER = 1e30  # in a label vector: finite in float32


def file_labels(archive: Archive, files: Sequence[str]) -> np.ndarray | None:
    """The labels of files by dataset.json, {"labels": [[file, int | [float, ...]], ...] | null}.

    Args:
        archive: Where the files lie, and dataset.json.
        files: The images.

    Returns:
        Class numbers int64 [N], vectors float32 [N, c_dim], or None.

    Raises:
        ValueError: dataset.json is damaged, lacks a file, or has labels of several kinds.
    """
    where = f"{archive.path}/{LABEL_FILE}"
    try:
        entries = json.loads(archive.read(LABEL_FILE)).get("labels")
        if entries is None:
            return None
        by_file = {str(name).replace("\\", "/"): label for name, label in entries}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f'data: {where} must be {{"labels": [[file, label], ...]}} ({error})') from error
    for name in by_file:
        check_name(name, archive.path / LABEL_FILE)
    for file in files:
        if file not in by_file:
            raise ValueError(f"data: {where} has no label for {file}")
    return label_array([by_file[file] for file in files], where)


def folder_classes(files: Sequence[str]) -> list[str]:
    """The folders of images that lie in one folder per class, in the order of the class numbers; else none."""
    folders = {folder_of(file) for file in files}
    return sorted(folders) if "" not in folders and len(folders) > 1 else []


def folder_labels(files: Sequence[str], folders: Sequence[str]) -> np.ndarray:
    """The class numbers of images by `folder_classes`: int64 [N]."""
    rank = {folder: k for k, folder in enumerate(folders)}
    return np.array([rank[folder_of(file)] for file in files], np.int64)


def folder_of(file: str) -> str:
    """The folder that a file lies in, empty for the archive itself."""
    return file.rpartition("/")[0]


def by_folder(folders: Sequence[str]) -> str:
    """Says for people which folder is which class."""
    shown = [*folders[:3], "..."] if len(folders) > 4 else folders
    return f" by folder: {', '.join(shown)}" if folders else ""


def label_array(labels: Sequence[Any] | np.ndarray, where: str) -> np.ndarray:
    """Labels of one kind as an array: class numbers int64 [N], or vectors float32 [N, c_dim].

    Args:
        labels: Integers from 0 up, or lists of numbers of one length.
        where: Names them in errors.

    Raises:
        ValueError: They are anything else.
    """
    try:
        array = np.array(labels)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"data: {where} mixes labels of different lengths ({error})") from error
    if array.ndim == 1 and np.issubdtype(array.dtype, np.integer) and array.min() >= 0:
        if array.max() >= MAX_CLASSES:
            raise ValueError(f"data: {where} has the class {array.max()}, expected at most {MAX_CLASSES - 1}")
        return array.astype(np.int64)
    if array.ndim == 2 and np.issubdtype(array.dtype, np.number) and (np.abs(array) < MAX_NUMBER).all():
        return array.astype(np.float32)
    raise ValueError(f"data: {where} labels must be integers from 0 up, or lists of finite numbers of one length")
