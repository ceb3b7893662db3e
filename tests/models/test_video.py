"""Frames come out of a video as they went in."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from gankern.models.training.png import read_png
from gankern.models.video import check_target, write_video

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def frames(channels: int, n: int = 5, height: int = 34, width: int = 41) -> list[np.ndarray]:
    """Smooth, which every codec keeps, each frame brighter than the one before."""
    ramp = np.linspace(0, 120, height * width).reshape(height, width, 1).repeat(channels, 2)
    return [(ramp + 25 * i).astype(np.uint8) for i in range(n)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_an_animation_has_every_frame_and_loops(kind: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"video.{kind}"
    given = frames(channels)
    write_video(path, iter(given), fps=20)
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        found = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
    assert len(found) == len(given)
    for (pixels, duration), frame in zip(found, given, strict=True):
        assert duration == 50
        assert np.abs(pixels.astype(int) - frame).mean() < 4


@needs_ffmpeg
@pytest.mark.parametrize("channels", [1, 3])
def test_an_mp4_has_every_frame_and_an_even_size(channels: int, tmp_path: Path) -> None:
    given = frames(channels)
    write_video(tmp_path / "video.mp4", given, fps=10)
    command = ["ffmpeg", "-loglevel", "error", "-i", tmp_path / "video.mp4", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    raw = subprocess.run(command, check=True, capture_output=True).stdout
    found = np.frombuffer(raw, np.uint8).reshape(-1, 34, 42)
    assert len(found) == len(given)
    for pixels, frame in zip(found, given, strict=True):
        assert np.abs(pixels[:, :41].astype(int) - frame[..., 0]).mean() < 4


def test_a_folder_gets_the_frames_themselves(tmp_path: Path) -> None:
    write_video(tmp_path / "frames", frames(3), fps=10)
    paths = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in paths] == [f"{i:05d}.png" for i in range(5)]
    assert all((read_png(path) == frame).all() for path, frame in zip(paths, frames(3), strict=True))


def test_a_name_that_cannot_be_written_is_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"must end in \.webp, \.gif, \.mp4 or"):
        check_target(tmp_path / "video.avi")
    with pytest.raises(ValueError, match=f"no folder {tmp_path}/gone to write video.webp into"):
        check_target(tmp_path / "gone" / "video.webp")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"video\.mp4 needs the program ffmpeg"):
        check_target(tmp_path / "video.mp4")


@needs_ffmpeg
def test_what_ffmpeg_cannot_do_is_said_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").mkdir()
    with pytest.raises(ValueError, match=r"ffmpeg could not write .*video.mp4: .*directory"):
        write_video(tmp_path / "video.mp4", frames(3, n=200), fps=10)
