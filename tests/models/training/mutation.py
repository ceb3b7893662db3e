"""Image files, and damaged files of any kind."""

import io
import os
from typing import Any

import numpy as np

MUTATIONS = int(os.environ.get("GANKERN_MUTATIONS", "3000"))  # of each kind of file; more for a long run
FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "PPM": {},
}


def file_of(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16)) -> bytes:
    from PIL import Image

    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (size[1], size[0], len(mode)), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels).save(file, kind, **FORMATS[kind])
    return file.getvalue()


def mutated(content: bytes, rng: np.random.RandomState) -> bytes:
    """A file with a few bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 5)):
        at, length = rng.randint(len(data)), rng.randint(1, 40)
        match rng.randint(5):
            case 0:
                data[at] ^= 1 << rng.randint(8)
            case 1:
                data[at : at + 4] = rng.bytes(4)
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case _:
                data = data[: max(at, 1)]
        if not data:
            break
    return bytes(data)
