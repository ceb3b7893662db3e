"""Foreign code comes and goes: each test has its own, and leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import standins

import gankern

FOREIGN = {"torch_utils", "training", "utils", "op", "model", "models", "basicsr", "mmcv", "torchvision", "vendored"}


def forget() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] in FOREIGN or name.startswith("_imported_module_"):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Callable[..., Path]]:
    """Makes a stand-in and puts it first on the path: `project("nvlabs", broken=True)`. Again replaces the former."""

    def make(kind: str, **options) -> Path:
        forget()
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        monkeypatch.syspath_prepend(str(getattr(standins, kind)(folder, **options)))
        return folder

    yield make
    gankern.unpatch()
    forget()
