"""python -m gankern.run train.py ...: runs a program with `gankern.patch()`, in all its processes, without an edit."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path


def main(argv: list[str]) -> None:
    """Starts Python anew on the program, with GANKERN_PATCH set; `-m package.module` works too.

    Args:
        argv: The program and its arguments.

    Raises:
        SystemExit: no program was named, or gankern's start-up file is not installed.
    """
    if not argv:
        raise SystemExit("usage: python -m gankern.run train.py [argument ...]")
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    if not any((Path(folder) / "gankern.pth").is_file() for folder in folders):
        raise SystemExit("gankern.run: gankern.pth is not in site-packages; install gankern with pip")
    os.environ.setdefault("GANKERN_PATCH", "1")
    os.execv(sys.executable, [sys.executable, *argv])


if __name__ == "__main__":
    main(sys.argv[1:])
