"""Other projects' dialects of gankern's ops, and `gankern.patch()`, which puts gankern in their place.

One file per dialect: `nvlabs` (NVIDIA's `torch_utils.ops`), `rosinality` (`op`, `basicsr.ops`), `mmcv`. `networks` has
the level "models", `compat` what today's PyTorch and its neighbours refuse, `startup` the variable GANKERN_PATCH.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gankern.dropin.finder import Finder

LEVELS = ("ops", "models")

_lock = threading.RLock()
_finder: Finder | None = None
_by_blocks: list[frozenset[str]] = []  # what each patched() that is entered asks for; all that is asked for is on
_by_patch: set[frozenset[str]] = set()


class Report(NamedTuple):
    """What is patched, what was done, and which op ran how often on which backend."""

    switches: tuple[str, ...]
    done: tuple[str, ...]
    calls: dict[tuple[str, str], int]

    def __str__(self) -> str:
        calls = [f"  {op:20s} {backend:8s} {n:>10d}" for (op, backend), n in sorted(self.calls.items())]
        head = f"gankern.patch: {', '.join(self.switches) or 'not patched'}"
        return "\n".join([head, *(f"  {line}" for line in self.done), "calls", *(calls or ["  none"])])


def patch(level: str = "ops", compat: bool = True) -> Report:
    """Puts gankern's ops in the place of those of published GAN code, in this process.

    Modules that are not imported yet are supplied whole, so that nothing is compiled; in those that are, the functions
    are replaced, and wherever they were imported by name. Which: `torch_utils.ops.*` and `style_ops.*`
    (stylegan2-ada-pytorch, stylegan3, R3GAN, StyleGAN-T, EG3D, DragGAN, StudioGAN), folders with `fused_act.py` and
    `upfirdn2d.py` and `basicsr.ops` (rosinality, pSp, e4e, GFPGAN), `mmcv.ops` of mmcv 2. Again is the same as once.

    Args:
        level: "ops" for the ops; "models" also for `modulated_conv2d` in the files of the networks.
        compat: Whether PyTorch, NumPy, SciPy and torchvision take again what that code gives them: an argument of
            `Sampler.__init__`, integer betas of Adam, `percentile(interpolation=)`, `sqrtm(disp=)`, and the import of
            `torchvision.transforms.functional_tensor`.

    Returns:
        What was done so far; `gankern.dropin.report()` prints it again at the end.

    Raises:
        ValueError: level is neither.
    """
    switches = _switches(level, compat)
    with _lock:
        _by_patch.add(switches)
        _settle()
        return _report()


def unpatch() -> None:
    """Takes back what `patch()` did.

    Imported modules have their own functions again. A module that was supplied is forgotten, and the next import finds
    the project's own; code that holds it keeps working with gankern.
    """
    with _lock:
        _by_patch.clear()
        _settle()


@contextmanager
def patched(level: str = "ops", compat: bool = True) -> Iterator[None]:
    """`patch()` for a block of code; arguments as there. What was patched before stays so."""
    switches = _switches(level, compat)
    try:
        with _lock:
            _by_blocks.append(switches)
            _settle()
        yield
    finally:
        with _lock:
            _by_blocks.remove(switches)
            _settle()


def report() -> Report:
    """Prints what was replaced, and how often each op ran on which backend; returns the same."""
    with _lock:
        found = _report()
    print(found)
    return found


def _switches(level: str, compat: bool) -> frozenset[str]:
    if level not in LEVELS:
        raise ValueError(f"gankern.patch: level must be one of {', '.join(LEVELS)}, got {level!r}")
    return frozenset(LEVELS[: LEVELS.index(level) + 1]) | (frozenset(["compat"]) if compat else frozenset())


def _settle() -> None:
    """Switches on what somebody asks for, and off what nobody does."""
    global _finder
    wanted = frozenset[str]().union(*_by_patch, *_by_blocks)
    if _finder is None:
        if not wanted:
            return
        from gankern.dropin.finder import Finder  # the dialects are imported by who asks for them

        _finder = Finder()
    if wanted and _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    for switch in [switch for switch in _finder.journals if switch not in wanted]:
        _finder.switch_off(switch)
    for switch in ("ops", "models", "compat"):
        if switch in wanted and switch not in _finder.journals:
            _finder.switch_on(switch)
    if not wanted and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)


def _report() -> Report:
    from gankern.dropin.calls import table

    journals = {} if _finder is None else _finder.journals
    done = [line for journal in journals.values() for line in journal.lines]
    return Report(tuple(journals), tuple(done), table())
