"""Published checkpoints, in and out, without executing anything from them; one file per format."""

from __future__ import annotations

from pathlib import Path

from .biggan_pytorch import BIGGAN_PYTORCH
from .checkpoint import NETWORKS, Checkpoint, Format
from .gan_zoo import GAN_ZOO
from .gankern_format import GANKERN
from .huggingface import HUGGINGFACE
from .rosinality import ROSINALITY
from .studiogan import STUDIOGAN
from .style_based_gan import STYLE_BASED_GAN
from .stylegan2_ada import STYLEGAN2_ADA
from .tensorflow import TENSORFLOW

FORMATS: list[Format] = [  # the first that recognises a file reads it
    GANKERN,
    STYLEGAN2_ADA,
    ROSINALITY,
    GAN_ZOO,
    BIGGAN_PYTORCH,
    STUDIOGAN,
    HUGGINGFACE,
    STYLE_BASED_GAN,
    TENSORFLOW,
]


def load(path: str | Path, *, which: str | None = None) -> Checkpoint:
    """Reads a checkpoint of any known format, which is found out from its content.

    Args:
        path: A file, or a folder of files that belong together.
        which: 'G', 'D' or 'G_ema' to load that network alone; None for all.

    Raises:
        ValueError: The file is damaged, of no known format, or holds something that is not data.
        FileNotFoundError: There is no such file.
    """
    from ..training.checkpoint import latest_snapshot
    from .reading import read

    if which not in (None, *NETWORKS):
        raise ValueError(f"which must be one of {', '.join(NETWORKS)} or None, got {which!r}")
    path = Path(path)
    path = latest_snapshot(path) or path  # of a run folder the newest one
    try:
        content = read(path)
        for one in FORMATS:
            if one.recognises(content):
                return one.load(content, which)
        raise ValueError(f"this is none of the known checkpoints: {', '.join(one.name for one in FORMATS)}")
    except ValueError as error:
        raise ValueError(f"{path}: {_printable(str(error))}") from error
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RuntimeError, MemoryError) as error:
        reason = _printable(f"{type(error).__name__}: {error}"[:200])
        raise ValueError(f"{path} has the names of {one.name}, but its content is damaged ({reason})") from error


def _printable(text: str) -> str:
    """One line without the control characters that a file may put into it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def save(checkpoint: Checkpoint, path: str | Path, to: str = "gankern") -> None:
    """Writes a checkpoint in a format by its name.

    Raises:
        ValueError: There is no such format, it is only read, or it has no place for these networks.
    """
    writers = {one.name: one.save for one in FORMATS if one.save is not None}
    if to not in writers:
        raise ValueError(f"--to must be one of {', '.join(writers)}, got {to}")
    _refuse_other_sizes(checkpoint, to)
    writers[to](checkpoint, Path(path))


def _refuse_other_sizes(checkpoint: Checkpoint, to: str) -> None:
    """Raises ValueError where a format of others has no place for images of this size."""
    base, resolution = checkpoint.model.base_size, checkpoint.model.img_resolution
    any_square = checkpoint.family in ("biggan", "sagan")
    if to == GANKERN.name or base == (4, 4) or (any_square and base[0] == base[1]):
        return
    height, width = (side * resolution // 4 for side in base)
    raise ValueError(f"--to {to} holds square images{'' if any_square else ' of a power of two'}, got {width}x{height}")
