"""Writes frames as a video: animated WebP or GIF, MP4 where there is ffmpeg, or a folder of PNG."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .training.png import write_png

ANIMATED = (".webp", ".gif")
KINDS = ".webp, .gif, .mp4 or, for a folder of PNG, no ending"


def check_target(path: Path) -> None:
    """Says before any frame is drawn whether a video can be written.

    Raises:
        ValueError: The ending is unknown, or the folder is not there.
        ModuleNotFoundError: What writes such a file is not installed.
    """
    kind = path.suffix.lower()
    if kind not in (*ANIMATED, ".mp4", ""):
        raise ValueError(f"a video's name must end in {KINDS}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"no folder {path.parent} to write {path.name} into")
    if kind in ANIMATED:
        _pillow_image()
    if kind == ".mp4" and shutil.which("ffmpeg") is None:
        raise ModuleNotFoundError(f"{path.name} needs the program ffmpeg, which was not found; .webp needs none")


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes frames that play in a loop, each taken when its turn comes.

    Args:
        path: File that ends in .webp, .gif or .mp4, or a folder for PNGs.
        frames: uint8 [H, W, 1 or 3], all of one size; at least one.
        fps: Frames per second.

    Raises:
        ValueError: As in `check_target`, or ffmpeg fails.
        ModuleNotFoundError: As in `check_target`.
    """
    check_target(path)
    rest = iter(frames)
    first = next(rest)
    frames = chain([first], rest)
    if path.suffix.lower() in ANIMATED:
        _write_animation(path, frames, fps)
    elif path.suffix:
        _write_mp4(path, frames, first.shape, fps)
    else:
        path.mkdir(exist_ok=True)
        for i, frame in enumerate(frames):
            write_png(path / f"{i:05d}.png", frame)


def _write_animation(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    Image = _pillow_image()
    images = (Image.fromarray(frame.repeat(3, 2) if frame.shape[2] == 1 else frame) for frame in frames)
    times = {"duration": round(1000 / fps), "loop": 0}
    quality = {"quality": 90, "method": 4} if path.suffix.lower() == ".webp" else {}
    next(images).save(path, save_all=True, append_images=images, **times, **quality)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], shape: tuple[int, ...], fps: float) -> None:
    """Through ffmpeg, as H.264 that every browser plays, which wants even sizes: odd ones get a black row or column."""
    height, width, channels = shape
    pixels = "gray" if channels == 1 else "rgb24"
    given = ["-f", "rawvideo", "-pix_fmt", pixels, "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-"]
    even = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
    wanted = ["-vf", even, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "16", "-movflags", "+faststart"]
    command = ["ffmpeg", "-y", "-loglevel", "error", *given, *wanted, str(path.absolute())]
    with tempfile.TemporaryFile() as said:
        ffmpeg = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        pipe: Any = ffmpeg.stdin
        try:
            with suppress(BrokenPipeError):  # it has ended, and has said why
                for frame in frames:
                    pipe.write(frame.tobytes())
        finally:
            with suppress(BrokenPipeError):
                pipe.close()
            ffmpeg.wait()
        said.seek(0)
        reason = said.read().decode(errors="replace").strip().splitlines()
    if ffmpeg.returncode != 0:
        raise ValueError(f"ffmpeg could not write {path}: {reason[-1] if reason else ffmpeg.returncode}")


def _pillow_image() -> ModuleType:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("WebP and GIF need Pillow: pip install 'gankern[train]'") from error
    return Image
