"""Images in tar shards: their order, their labels, and what is wrong with them."""

import io
import json
import pickle
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from gankern.models.training import webdataset
from gankern.models.training.data import batches, open_data
from gankern.models.training.image_files import ImageFiles
from gankern.models.training.webdataset import find_shards

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, files: list[tuple[str, bytes]], tar_format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=tar_format) as archive:
        for name, content in files:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def sample(number: int, label: bytes | None = None, extension: str = "cls") -> list[tuple[str, bytes]]:
    files = [(f"{number:06d}.png", png(number))]
    return files if label is None else [*files, (f"{number:06d}.{extension}", label)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """shards-0 to shards-2 with four images each, image k of class k % 3."""
    folder = tmp_path / "wds"
    folder.mkdir()
    for shard in range(3):
        numbers = range(4 * shard, 4 * shard + 4)
        files = [file for k in numbers for file in sample(k, b"%d" % (k % 3))]
        write_tar(folder / f"shards-{shard}.tar", files)
    return folder


def reds(data: ImageFiles) -> list[int]:
    return [int(data[k][0, 0, 0]) for k in range(len(data))]


@pytest.mark.parametrize("source", ["{}", "{}/shards-{{0..2}}.tar", "{}/shards-*.tar"])
def test_the_shards_of_a_folder_a_row_or_a_pattern_are_one_data_set(shards: Path, source: str) -> None:
    data = open_data(source.format(shards), cond=True)
    assert isinstance(data, ImageFiles)
    assert reds(data) == list(range(12))
    assert data.labels is not None
    assert data.labels.tolist() == [k % 3 for k in range(12)]
    assert (data.name, data.describe()) == ("wds", "12 images, 8x8 RGB, 3 classes")


def test_one_shard_is_a_data_set(shards: Path) -> None:
    assert reds(ImageFiles(shards / "shards-1.tar")) == [4, 5, 6, 7]


def test_rows_of_numbers_keep_their_zeros_and_a_missing_shard_is_named(tmp_path: Path) -> None:
    for number in ("08", "09", "10"):
        write_tar(tmp_path / f"a-{number}.tar", sample(1))
    assert [path.name for path in find_shards(f"{tmp_path}/a-{{08..10}}.tar")] == ["a-08.tar", "a-09.tar", "a-10.tar"]
    with pytest.raises(FileNotFoundError, match=r"2 shards of .* are missing, the first is .*a-11\.tar"):
        find_shards(f"{tmp_path}/a-{{08..12}}.tar")
    with pytest.raises(ValueError, match="1 to 65536 shards"):
        find_shards(f"{tmp_path}/a-{{0..99999999999999999999}}.tar")


@pytest.mark.parametrize("workers", [1, 2])
def test_order_and_resumption_do_not_depend_on_the_workers(shards: Path, workers: int) -> None:
    def seen(start: int, workers: int) -> torch.Tensor:
        dealt = batches(open_data(str(shards)), 4, seed=3, start=start, workers=workers)
        return torch.cat([images for images, _ in islice(dealt, 6 - start // 4)])

    assert torch.equal(seen(8, workers), seen(0, 0)[8:])


def test_the_index_is_kept_beside_the_shards_until_they_change(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ImageFiles(shards)
    assert len(list(shards.glob(".gankern-index-*.npz"))) == 1

    def read_again(*args: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(webdataset, "members", read_again)
        assert reds(ImageFiles(shards)) == list(range(12))
    write_tar(shards / "shards-1.tar", sample(77, b"0"))
    assert reds(ImageFiles(shards)) == [0, 1, 2, 3, 77, 8, 9, 10, 11]
    assert len(list(shards.glob(".gankern-index-*.npz"))) == 1


def test_the_index_of_shards_that_are_read_only_is_kept_in_the_cache(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANKERN_CACHE", str(tmp_path / "cache"))
    beside = webdataset._index_files

    def read_only(files: list[Path]) -> list[Path]:
        return [files[0] / "is no folder" / "index.npz", beside(files)[1]]

    monkeypatch.setattr(webdataset, "_index_files", read_only)
    assert reds(ImageFiles(shards)) == list(range(12))
    assert len(list((tmp_path / "cache").glob("index-*.npz"))) == 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 damaged", None])
def test_a_damaged_index_is_made_anew(shards: Path, damage: bytes | None) -> None:
    ImageFiles(shards)
    (index,) = shards.glob(".gankern-index-*.npz")
    if damage is None:  # whole, but of images beyond the shards' ends
        places = np.full((12, 3), 10**9)
        with np.load(index) as archive:
            np.savez(index, **{**archive, "places": places})
    else:
        index.write_bytes(damage)
    assert reds(ImageFiles(shards)) == list(range(12))


def test_an_open_set_can_be_sent_to_a_worker(shards: Path) -> None:
    assert reds(pickle.loads(pickle.dumps(ImageFiles(shards)))) == list(range(12))


def test_shards_may_have_one_name_in_several_folders(tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"part{number}").mkdir()
        write_tar(tmp_path / f"part{number}" / "a.tar", sample(0))
    data = ImageFiles(f"{tmp_path}/part{{0..1}}/a.tar")
    assert data.files == ["part0/a.tar/000000.png", "part1/a.tar/000000.png"]
    assert data.path == tmp_path


def test_more_shards_than_a_process_may_open_are_read(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_OPEN", 2)
    data = ImageFiles(shards)
    assert reds(data) == list(range(12))
    assert isinstance(data.archive, webdataset.TarShards)
    assert [shard.descriptor for shard in data.archive.shards] == [None] * 3


def test_labels_may_be_vectors_in_json(tmp_path: Path) -> None:
    files = [*sample(0, b'{"label": [0.5, 1], "caption": "x"}', "json"), *sample(1, b'{"label": [2, 3]}', "json")]
    data = ImageFiles(write_tar(tmp_path / "a.tar", files))
    assert data.labels is not None
    assert data.labels.tolist() == [[0.5, 1.0], [2.0, 3.0]]


@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_are_read_in_every_format(tmp_path: Path, tar_format: int) -> None:
    folders = "/".join("long-name" for _ in range(14 if tar_format == tarfile.USTAR_FORMAT else 40))
    files = [(f"./{folders}/{k}.png", png(k)) for k in range(3)]
    data = ImageFiles(write_tar(tmp_path / "a.tar", files, tar_format))
    assert data.files == [f"a.tar/{folders}/{k}.png" for k in range(3)]
    assert reds(data) == [0, 1, 2]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([*sample(0, b"1"), *sample(1)], r"a\.tar/a\.tar/000001\.png has no label, but others have"),
        ([("0.png", png(0)), ("0.jpg", png(0))], "one image of each sample, got 2 of '0'"),
        ([("0.txt", b"no image")], "one image of each sample, got 0 of '0'"),
        (sample(0, b"cat"), r"000000\.cls is no label"),
        (sample(0, b"[" * 100_000, "json"), r"000000\.json is no label"),
        (sample(0, b" " * 2**20 + b"1"), r"000000\.cls must have at most"),
        ([*sample(0), *sample(1), *sample(0)], "two files of one name"),
        ([("../0.png", png(0))], "leads out of it"),
        ([("/etc/0.png", png(0))], "leads out of it"),
        ([], "no image files"),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path: Path, files: list[tuple[str, bytes]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFiles(write_tar(tmp_path / "a.tar", files))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        header = tarfile.TarInfo("0.png")
        header.type, header.linkname = kind, "/etc/passwd"
        archive.addfile(header)
    with pytest.raises(ValueError, match=r"'0\.png', a link, device"):
        ImageFiles(tmp_path / "a.tar")


def test_truncated_and_damaged_shards_are_named(shards: Path) -> None:
    shard = shards / "shards-2.tar"
    content = shard.read_bytes()
    one_image = 512 + 512 * -(-len(png(8)) // 512)
    for length in (0, 100, 600, one_image, one_image + 1024):
        shard.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"shards-2\.tar (ends at byte|has a damaged header|has no end mark)"):
            ImageFiles(shards)
    for at in (0, 100, 124, 148):  # of the first header: name, mode, size, checksum
        shard.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
        with pytest.raises(ValueError, match=r"shards-2\.tar has a damaged header at byte 0"):
            ImageFiles(shards)


@pytest.mark.parametrize("size", [2**40, -(2**40)])
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path: Path, size: int) -> None:
    for kind in (tarfile.REGTYPE, b"L", b"x", b"g"):
        header = tarfile.TarInfo("0.png")
        header.type = kind
        block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
        block[124:136] = (size % 2**96 | (1 << 95)).to_bytes(12, "big")
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
        (tmp_path / "a.tar").write_bytes(block + bytes(4096))
        with pytest.raises(ValueError, match=r"a\.tar ends at byte 4608|damaged header"):
            ImageFiles(tmp_path / "a.tar")


def test_a_pax_header_too_large_or_damaged_is_refused(tmp_path: Path) -> None:
    for content, message in [(b" " * 2**21, "header of 2097152 bytes"), (b"99999 path=x\n", "damaged extended header")]:
        header = tarfile.TarInfo("h")
        header.type, header.size = b"x", len(content)
        padding = bytes(-len(content) % 512)
        (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + content + padding + bytes(1024))
        with pytest.raises(ValueError, match=message):
            ImageFiles(tmp_path / "a.tar")


def test_sources_that_are_no_shards_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"compressed, expected \.tar"):
        open_data(str(tmp_path / "a.tar.gz"))
    write_tar(tmp_path / "a.tar", sample(0))
    (tmp_path / "b.png").write_bytes(png(0))
    with pytest.raises(ValueError, match=r"tar files and b\.png, expected"):
        open_data(str(tmp_path))
    with pytest.raises(ValueError, match=r"to match \.tar files"):
        open_data(str(tmp_path / "*.png"))


def test_a_json_without_a_label_is_no_label(tmp_path: Path) -> None:
    files = [file for k in range(2) for file in sample(k, json.dumps({"caption": "x"}).encode(), "json")]
    assert ImageFiles(write_tar(tmp_path / "a.tar", files)).labels is None
