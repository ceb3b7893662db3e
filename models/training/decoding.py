"""From the bytes of an image file, which may be anybody's, to pixels."""

import io
from types import ModuleType

import numpy as np

from .images import KINDS

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # no format whose decoder starts programs
EXTENSIONS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
MAX_PIXELS = 2**26  # 8192x8192: a file of a few kilobytes can claim any size
GREY, COLOUR, ALPHA = ("1", "L", "LA"), "RGB", ("RGBA", "PA", "RGBa")  # Pillow's modes


def pillow() -> ModuleType:
    """Pillow's module Image."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("data: image files need Pillow: pip install 'gankern[train]'") from error
    return Image


def decode(content: bytes) -> np.ndarray:
    """The pixels of an image file, the first image where there are several.

    Args:
        content: A PNG, JPEG, WebP, BMP, TIFF, GIF or PPM file.

    Returns:
        uint8 [H, W, C], C = 1 (grey), 3 (RGB) or 4 (RGB and alpha).

    Raises:
        ValueError: It is damaged, of another format, has 16 bits or more per value, or more than `MAX_PIXELS` pixels.
    """
    try:
        with pillow().open(io.BytesIO(content), formats=FORMATS) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"{image.mode} pixels (16 bits or more) are not supported, convert to 8 bits")
            if image.width * image.height > MAX_PIXELS:  # nothing is decoded yet
                raise ValueError(f"expected at most {MAX_PIXELS} pixels, got {image.width}x{image.height}")
            mode = "L" if image.mode in GREY else "RGBA" if image.mode in ALPHA else COLOUR
            pixels = np.array(image.convert(mode))  # [H, W] or [H, W, C]
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise about any type of exception
        kind = type(error).__name__
        if kind == "UnidentifiedImageError":
            raise ValueError(f"no image in a known format: {', '.join(FORMATS)}") from error
        said = " ".join(str(error).split())[:200]
        raise ValueError(said if kind == "ValueError" else f"{kind}: {said}") from error
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """The same image in another number of channels: grey is repeated, alpha dropped, or added opaque.

    Args:
        pixels: uint8 [H, W, C].
        channels: 1, 3 or 4.

    Returns:
        uint8 [H, W, channels].

    Raises:
        ValueError: Colour should become grey, which can be done in several ways.
    """
    has = pixels.shape[2]
    if has == channels:
        return pixels
    if channels == 1:
        raise ValueError(f"expected a grey image, got {KINDS[has]}")
    colour = np.repeat(pixels, 3, axis=2) if has == 1 else pixels[:, :, :3]
    if channels == 3:
        return colour
    return np.concatenate([colour, np.full_like(colour[:, :, :1], 255)], axis=2)
