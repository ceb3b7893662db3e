"""GANKERN_PATCH: `gankern.patch()` in a program that does not call it, and in every Python process that it starts.

`gankern.pth` runs this file when Python starts and the variable is set. It knows only Python's own library: gankern,
and with it torch, is imported when the program first asks for a module of a GAN project, and not before.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

PACKAGES = {"torch_utils", "style_ops", "op", "op_edit", "basicsr", "mmcv", "functional_tensor"}
LEVELS = {"1": "ops", "ops": "ops", "models": "models"}


class PatchAtFirstUse:
    """A finder that finds nothing, but calls `gankern.patch` before a GAN project's module is looked for."""

    def __init__(self, level: str) -> None:
        self.level, self.lock = level, threading.Lock()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        parts = name.split(".")
        wanted = not PACKAGES.isdisjoint(parts) or parts[-1].startswith(("networks", "fused_act", "upfirdn2d"))
        if not wanted or parts[0] in ("torch", "gankern", "scipy"):
            return None
        with self.lock:
            import gankern

            if self in sys.meta_path:
                sys.meta_path.remove(self)  # type: ignore[arg-type]
                gankern.patch(level=self.level)
        return sys.meta_path[0].find_spec(name, path, target)  # this search began without gankern's finder


def install() -> None:
    value = os.environ.get("GANKERN_PATCH", "")
    if value in ("", "0"):
        return
    if value not in LEVELS:
        raise ValueError(f"GANKERN_PATCH must be one of {', '.join(LEVELS)} or 0, got '{value}'")
    if not any(type(finder).__name__ == "PatchAtFirstUse" for finder in sys.meta_path):  # a venv reads .pth files twice
        sys.meta_path.insert(0, PatchAtFirstUse(LEVELS[value]))  # type: ignore[arg-type]


install()
