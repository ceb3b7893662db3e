"""Folders and zip files that somebody else made: what leads out of them, or would not end, is refused."""

import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from mutation import MUTATIONS, file_of, mutated

from gankern.models.training.archives import Folder, OpenFile, ZipArchive
from gankern.models.training.image_files import ImageFiles

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")

# A process that opens and reads a data set, with half a gibibyte beyond what it needs itself and 20 s of work.
LIMITED = """
import resource, sys, time
from gankern.models.training.image_files import ImageFiles
used = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmSize"))) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
start = time.process_time()
for path in sys.argv[1:]:
    try:
        ImageFiles(path)[0]
        print("read", path)
    except ValueError as error:
        print(error)
assert time.process_time() - start < 15
"""


def zip_with(path: Path, *names: str, content: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name", ["../a.png", "a/../../b.png", "/etc/a.png", "..\\a.png", "C:/a.png", "c:a.png", "a\nb.png"]
)
def test_names_that_lead_out_of_a_zip_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"a\.zip has a file of the name .* which leads out of it"):
        ZipArchive(zip_with(tmp_path / "a.zip", name))


@pytest.mark.parametrize("name", ["../img0.png", "/img0.png", "sub/../../img0.png"])
def test_names_that_lead_out_of_the_data_in_dataset_json_are_refused(image_folder: Path, name: str) -> None:
    (image_folder / "dataset.json").write_text(json.dumps({"labels": [[name, 0]]}))
    with pytest.raises(ValueError, match=r"dataset\.json has a file of the name .* which leads out of it"):
        ImageFiles(image_folder)


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match=r"a\.zip has the link 'a\.png'"):
        ZipArchive(tmp_path / "a.zip")


@pytest.mark.parametrize("target", [".", "..", "loop", "nowhere"])
def test_links_that_go_round_in_circles_or_nowhere_are_named(image_folder: Path, target: str) -> None:
    (image_folder / "loop").symlink_to(target)
    with pytest.raises(ValueError, match=rf"images/loop is a link to {target}, expected one to a file"):
        Folder(image_folder).names()


def test_links_to_files_are_followed(image_folder: Path) -> None:
    (image_folder / "img99.png").symlink_to(image_folder / "img3.png")
    assert ImageFiles(image_folder).files[7] == "img99.png"


def test_a_pipe_with_the_name_of_an_image_is_no_image(image_folder: Path) -> None:
    os.mkfifo(image_folder / "img98.png")
    assert "img98.png" not in Folder(image_folder).names()


def deflated_zip(path: Path, content: bytes, claimed: int | None = None) -> Path:
    """A zip with one deflated a.png that claims a size."""
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = machine.compress(content) + machine.flush()
    size, crc = len(content) if claimed is None else claimed, zlib.crc32(content)
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, crc, len(packed), size, 5, 0)
    local = b"PK\x03\x04" + common + b"a.png" + packed
    central = b"PK\x01\x02" + b"\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"a.png"
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)
    path.write_bytes(local + central + end)
    return path


def test_bombs_are_refused_in_little_time_and_memory(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, *chunks: bytes) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")

    zeros = zlib.compress(bytes(2**24))
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 2**24))
    bombs = {
        "huge.png": png(60_000, 60_000, chunk(b"IDAT", zeros)),
        "large.png": png(9000, 9000, chunk(b"IDAT", zeros)),
        "text.png": png(8, 8, text, chunk(b"IDAT", zlib.compress(bytes(200)))),
        "many.gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00" + b",\0\0\0\0\xff\xff\xff\xff\0\x08" + b"\0" * 50,
        "wide.ppm": b"P6 2000000000 2000000000 255\n",
        "wide.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    paths = []
    for name, content in bombs.items():
        paths.append(tmp_path / name.replace(".", "-"))
        paths[-1].mkdir()
        (paths[-1] / name).write_bytes(content)
    paths.append(deflated_zip(tmp_path / "ratio.zip", bytes(2**24)))
    paths.append(deflated_zip(tmp_path / "liar.zip", bytes(2**24), claimed=2**17))
    paths.append(deflated_zip(tmp_path / "braggart.zip", bytes(100), claimed=2**31))
    sparse = tmp_path / "sparse"
    sparse.mkdir()
    with open(sparse / "a.png", "wb") as file:
        file.truncate(2**40)
    paths.append(sparse)
    nested = tmp_path / "nested"
    nested.mkdir()
    (nested / "a.png").write_bytes(png(8, 8))
    (nested / "dataset.json").write_text('{"labels": ' + "[" * 200_000)
    paths.append(nested)
    command = [sys.executable, "-c", LIMITED, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line]
    assert [path.name for path, line in zip(paths, lines, strict=True) if path.name not in line] == []
    assert [line for line in lines if line.startswith("read")] == []
    assert max(map(len, lines)) < 500, lines


def test_a_file_that_ends_early_is_named(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"abc")
    file = OpenFile(tmp_path / "short")
    assert file.read(1, 2) == b"bc"
    with pytest.raises(ValueError, match="short ends at byte 3, expected 3 bytes at 1"):
        file.read(1, 3)


def test_an_encrypted_or_rarely_compressed_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.png", b"x")
    with pytest.raises(ValueError, match="expected stored or deflated"):
        ImageFiles(tmp_path / "a.zip")


@pytest.fixture
def archives(tmp_path: Path) -> dict[str, Path]:
    """Three labelled images in a deflated zip, and in a tar with long names."""
    png = file_of("PNG")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for k in range(3):
            archive.writestr(f"{k}.png", png)
        archive.writestr("dataset.json", json.dumps({"labels": [[f"{k}.png", k] for k in range(3)]}))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for k in range(3):
            for name, content in ((f"{'x' * 120}{k}.png", png), (f"{'x' * 120}{k}.cls", b"%d" % k)):
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return {"zip": tmp_path / "a.zip", "tar": tmp_path / "a.tar"}


def with_tar_checksums(content: bytes) -> bytes:
    """A damaged tar whose headers have the right checksums, so that what they say is believed."""
    data = bytearray(content)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_mutated_archives_are_read_or_refused_with_one_line(archives: dict[str, Path], kind: str) -> None:
    path, rng, refusals = archives[kind], np.random.RandomState(1), []
    content = path.read_bytes()
    for number in range(MUTATIONS // 10):
        damaged = mutated(content, rng)
        path.write_bytes(with_tar_checksums(damaged) if kind == "tar" and number % 2 else damaged)
        try:
            data = ImageFiles(path)
            data.read(np.arange(len(data)))
        except ValueError as error:
            refusals.append(str(error))
    assert refusals
    assert [text for text in refusals if "\n" in text or "data: " not in text] == []
