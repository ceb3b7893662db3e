"""`gankern dataset`: images from anywhere, made into one file that training reads."""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .dataset.conversion import Result

CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
SOURCES = """sources:
  photos/  photos.zip            image files, with dataset.json or one folder per class for labels
  shards-{000..099}.tar          webdataset; also a folder of .tar files, or "shards-*.tar"
  faces.gankern  digits:32       what `gankern train --data` takes
  cifar-10-python.tar.gz         CIFAR-10, its training images
  train-images-idx3-ubyte.gz     MNIST or Fashion-MNIST, with the file of the labels beside it
  bedroom_train_lmdb/            LSUN (pip install 'gankern[lsun]')

destinations:
  faces.gankern                  packed: fastest to read, each image with a checksum
  faces.zip  faces/              PNG files and dataset.json, which StyleGAN2-ADA and StyleGAN3 read too
"""


def add_options(dataset: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    dataset.set_defaults(run=run)
    dataset.epilog = SOURCES
    add = dataset.add_argument
    add("places", nargs="*", metavar="SOURCE DEST", help="where the images come from, and what to write")
    add("--source", help="the same as the first argument")
    add("--dest", type=Path, help="the same as the second argument")
    add("--resolution", type=resolution, metavar="WxH", help="resize to this size [as they are, all of one size]")
    add("--width", type=int, help="with --height, the same as --resolution")
    add("--height", type=int, help="with --width, the same as --resolution")
    add(
        "--transform",
        choices=("center-crop", "center-crop-wide"),
        help="before resizing cut out the middle, in the proportions of --resolution; -wide adds black bars [stretch]",
    )
    add("--resize-filter", choices=("lanczos", "box"), default="lanczos", help="[lanczos]")
    add("--channels", choices=tuple(CHANNELS), help="[those of the first image]")
    add("--max-images", type=positive, metavar="N", help="take the first N [all]")
    add("--strict", action="store_true", help="stop at the first image that cannot be used [leave it out]")
    add("--workers", type=positive, metavar="N", help="threads [one per core]")


def run(args: argparse.Namespace) -> int:
    """Converts, and says what was left out."""
    from .dataset.conversion import convert
    from .dataset.destinations import writing
    from .dataset.preparation import Preparation
    from .dataset.sources import open_source

    name, dest = _places(args)
    channels = CHANNELS[args.channels] if args.channels else None
    prepare = Preparation(_size(args), args.transform, args.resize_filter, channels)
    threads = args.workers or os.cpu_count() or 1
    try:
        with _interrupted_by_sigterm(), warnings.catch_warnings(), writing(dest) as destination:
            warnings.simplefilter("ignore", UserWarning)  # Pillow's, of damaged metadata
            source = open_source(name, args.max_images)
            with _bar(len(source.names)) as after_image:
                result = convert(source, destination, prepare, args.strict, threads, after_image)
    except KeyboardInterrupt:
        print(f"gankern dataset: interrupted, {dest} is not written", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        free = shutil.disk_usage(dest.parent).free / 2**30
        raise OSError(f"no room for {dest}, {free:.1f} GiB are free without it; nothing is written") from error
    _report(dest, result, source.folders)
    return 0


def resolution(text: str) -> tuple[int, int]:
    """256x192, or 256 for 256x256, as (height, width)."""
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not (height or width).isdecimal() or 0 in (int(width), int(height or width)):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT such as 256x256, got {text}")
    return int(height or width), int(width)


def positive(text: str) -> int:
    """A number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text}")
    return int(text)


def _places(args: argparse.Namespace) -> tuple[str, Path]:
    places = [*([args.source] if args.source else []), *args.places, *([args.dest] if args.dest else [])]
    if len(places) != 2:
        raise ValueError(f"expected SOURCE and DEST, got {' '.join(map(str, places)) or 'neither'}")
    return str(places[0]), Path(places[1])


def _size(args: argparse.Namespace) -> tuple[int, int] | None:
    sides = (args.height, args.width)
    if sides == (None, None):
        return args.resolution
    if None in sides or args.resolution:
        raise ValueError("expected --width with --height, or --resolution alone")
    return sides


def _report(dest: Path, result: Result, folders: Sequence[str]) -> None:
    from .training.images import KINDS
    from .training.labels import by_folder

    height, width, channels = result.shape
    size = sum(file.stat().st_size for file in (dest.rglob("*.png") if dest.is_dir() else [dest]))
    about = f"{len(result.kept)} images, {width}x{height} {KINDS[channels]}"
    if result.labels is None:
        labels = "no labels"
    elif result.labels.ndim == 1:
        labels = f"{int(result.labels.max()) + 1} classes{by_folder(folders)}"
    else:
        labels = f"labels of {result.labels.shape[1]} numbers"
    print(f"{dest}: {about}, {labels}, {size / 2**20:.1f} MiB")
    listed = dest.with_name(f"{dest.name}.skipped.txt")
    listed.unlink(missing_ok=True)
    if result.skipped:
        listed.write_text("".join(f"{name}: {reason}\n" for name, reason in result.skipped), errors="backslashreplace")
        print(f"left out: {len(result.skipped)} images that cannot be used, listed in {listed}; the first is")
        print(f"  {result.skipped[0][0]}: {result.skipped[0][1]}")


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], object]]:
    """Shows images/s and the time left, on a terminal where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield lambda: None
        return
    with tqdm(total=total, unit="image", disable=not sys.stderr.isatty()) as bar:
        yield bar.update


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the command as Ctrl-C does, so that nothing half written stays behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
