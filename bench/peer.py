"""The published ops, from a checkout that the user has: only measured, never part of this project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


def load(path: Path) -> Callable[[str], ModuleType]:
    """What imports the modules of `torch_utils.ops` by name; on a GPU they compile their kernels at the first call.

    Args:
        path: A checkout of stylegan2-ada-pytorch, stylegan3, eg3d (its folder eg3d), R3GAN, ...

    Raises:
        ValueError: There is no torch_utils/ops in it.
    """
    if not (path / "torch_utils" / "ops").is_dir():
        raise ValueError(f"--peer must be a folder with torch_utils/ops in it, got {path}")
    sys.path.insert(0, str(path.resolve()))
    return lambda name: importlib.import_module(f"torch_utils.ops.{name}")
