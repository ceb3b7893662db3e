"""The cases of every op: all that the cases_<op>.py beside this file list."""

from __future__ import annotations

import importlib
from pathlib import Path

from case import Case

MODULES = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("cases_*.py"))]
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
