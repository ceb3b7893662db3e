"""The sample grids of a run as data for its report: few enough, and small enough."""

import base64
import io
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .pictures import sample_grids
from .png import encode_png, read_png

try:
    from PIL import Image
except ModuleNotFoundError:
    Image = None  # type: ignore[assignment]

MOST_MOMENTS = 40
MOST_BYTES = 12_000_000  # of all moments together, as text in the page
MOST_PIXELS = 900  # width of a picture
LOSSLESS_BYTES = 120_000  # up to which a picture is kept exactly
QUALITY = 85


class Moment(NamedTuple):
    """One sample grid."""

    label: str  # such as `12 kimg, 8x8`
    uri: str  # data:image/...


def moments(run_dir: Path) -> tuple[list[Moment], int]:
    """The first and the last sample grid and every k-th between, k the least power of two for which they fit.

    Returns:
        Those, earliest first; and how many were left out.
    """
    grids = sample_grids(run_dir)
    if not grids:
        return [], 0
    step = 1
    while True:
        kept = [*grids[:-1:step], grids[-1]]
        if len(kept) <= MOST_MOMENTS:
            found = [Moment(label(path), picture_uri(path)) for path in kept]
            if sum(len(moment.uri) for moment in found) <= MOST_BYTES or len(kept) <= 2:
                return found, len(grids) - len(kept)
        step *= 2


def label(grid: Path) -> str:
    """When a grid was made, and its resolution where networks grow, from its name."""
    kimg, *size = re.findall(r"\d+x\d+|\d+", grid.stem)
    return ", ".join([f"{int(kimg)} kimg", *size])


def picture_uri(path: Path) -> str:
    """A picture of ours as a data URI, at most `MOST_PIXELS` wide: WebP where Pillow is installed, else PNG."""
    return _picture_uri(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2 * MOST_MOMENTS)
def _picture_uri(path: Path, changed: int) -> str:
    """Of a path that was changed then: each picture is encoded once while a run goes on."""
    kind, data = encode(shrunk(read_png(path), MOST_PIXELS))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def shrunk(pixels: np.ndarray, width: int) -> np.ndarray:
    """Averages squares of pixels of uint8 [H, W, C] until the picture is at most `width` wide."""
    factor = -(-pixels.shape[1] // width)
    if factor == 1:
        return pixels
    height, width = pixels.shape[0] // factor, pixels.shape[1] // factor
    squares = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor, -1)
    return squares.mean((1, 3)).round().astype(np.uint8)


def encode(pixels: np.ndarray) -> tuple[str, bytes]:
    """The kind and the bytes of an image file of uint8 [H, W, 1 or 3]."""
    if Image is None:
        return "png", encode_png(pixels)
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    data = io.BytesIO()
    image.save(data, "webp", lossless=True, quality=50)
    if data.tell() > LOSSLESS_BYTES:
        data = io.BytesIO()
        image.save(data, "webp", quality=QUALITY)
    return "webp", data.getvalue()
