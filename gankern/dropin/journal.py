"""Attributes that are replaced, and how they come back."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

ABSENT = object()


class Journal:
    """What one switch of `gankern.patch` changed, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, str, Any, Any]] = []
        self.supplied: dict[str, Any] = {}  # modules that are gankern's
        self.lines: list[str] = []  # for the report

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute of a module or a class."""
        old = vars(owner).get(name, ABSENT)
        if old is not value:
            self.entries.append((owner, name, old, value))
            setattr(owner, name, value)

    def replace(self, module: Any, names: dict[str, Any]) -> None:
        """Sets attributes of a module, and of every other one that imported its functions by name."""
        moved = {}
        for name, value in names.items():
            old = vars(module).get(name, ABSENT)
            self.set(module, name, value)
            if callable(old) and getattr(undecorated(old), "__module__", None) == module.__name__:
                moved[id(old)] = (old, value)
                if isinstance(old, type):
                    self.set(old, "forward", value.forward)  # of the modules that were made before
        for other in [m for m in list(sys.modules.values()) if moved and inspect.ismodule(m)]:
            for alias, found in list(vars(other).items()):
                if id(found) in moved:
                    self.set(other, alias, moved[id(found)][1])

    def undo(self) -> None:
        """Puts back what was there, except where somebody else has set another value since."""
        for owner, name, old, value in reversed(self.entries):
            if vars(owner).get(name, ABSENT) is not value:
                continue
            if old is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
        for name, module in self.supplied.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
            parent, _, stem = name.rpartition(".")
            if parent in sys.modules and vars(sys.modules[parent]).get(stem) is module:
                delattr(sys.modules[parent], stem)


def undecorated(function: Callable) -> Callable:
    """The function of the same name inside a decorator that does not say what it wraps."""
    while True:
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        inner = [c for c in cells if inspect.isfunction(c) and c.__name__ == getattr(function, "__name__", None)]
        if not inner:
            return function
        function = inner[0]


def parameters(function: Any) -> tuple[str, ...]:
    """The names of its parameters; () of what has none to show."""
    try:
        return tuple(inspect.signature(undecorated(function)).parameters)
    except (TypeError, ValueError):
        return ()
