"""Data sets of other kinds, in files that the tests write, damaged ones among them."""

import gzip
import io
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gankern.models.dataset import sources
from gankern.models.dataset.sources import open_source

Image = pytest.importorskip("PIL.Image", reason="image files need Pillow")


class Attack:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def write_cifar(path: Path, batches: dict[str, Any], protocol: int = 2) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in batches.items():
            content = pickle.dumps(batch, protocol)
            header = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def cifar_batches(count: int = 4) -> dict[str, Any]:
    """Batches as their authors wrote them, with bytes as keys; the images of batch k are full of k."""
    return {
        f"data_batch_{k}": {
            b"data": np.full((count, 3072), k, np.uint8),
            b"labels": [(k + i) % 10 for i in range(count)],
            b"filenames": [b"x.png"] * count,
        }
        for k in range(1, 6)
    }


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 0x803, *images.shape) + images.tobytes()))
    content = struct.pack(">2I", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    return path


def test_cifar_is_read_with_its_classes(tmp_path: Path) -> None:
    batches = cifar_batches()
    batches["data_batch_2"][b"data"][1] = np.arange(3072) % 256
    source = open_source(str(write_cifar(tmp_path / "cifar-10-python.tar.gz", batches)))
    assert len(source.names) == 20
    assert source.names[5] == "data_batch_2/1"
    assert source.labels is not None
    assert source.labels[:6].tolist() == [1, 2, 3, 4, 2, 3]
    image = source.load(5)
    assert image.shape == (32, 32, 3)
    assert image[1, 2].tolist() == [34, 34 + 1024 % 256, 34 + 2048 % 256]  # colour by colour, then row by row
    assert (source.load(19) == 5).all()


def test_cifar_executes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = cifar_batches() | {"data_batch_3": {b"data": Attack(), b"labels": []}}
    with pytest.raises(ValueError, match=r"data_batch_3: the pickle refers to 'builtins\.print', which is refused"):
        open_source(str(write_cifar(tmp_path / "a.tar.gz", batches)))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": np.zeros((4, 3071), np.uint8)}, r"expected data uint8 \[N, 3072\]"),
        ({b"data": np.zeros((4, 3072), np.float32)}, r"expected data uint8 \[N, 3072\]"),
        ({b"data": b"none"}, r"expected data uint8 \[N, 3072\]"),
        ({b"labels": [0, 1, 2]}, "expected 4 labels, got 3"),
        ({b"labels": [0, 1, 2, 10]}, "labels from 0 to 9"),
    ],
)
def test_batches_of_cifar_that_are_none_are_refused(tmp_path: Path, change: dict[bytes, Any], message: str) -> None:
    batches = cifar_batches()
    batches["data_batch_5"] |= change
    with pytest.raises(ValueError, match=message):
        open_source(str(write_cifar(tmp_path / "a.tar.gz", batches)))


def test_other_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_cifar(tmp_path / "a.tar.gz", {"data_batch_1": {}})
    with pytest.raises(ValueError, match=r"expected data uint8"):
        open_source(str(path))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.tar\.gz is truncated"):
        open_source(str(path))
    path.write_bytes(b"no gzip")
    with pytest.raises(ValueError, match=r"a\.tar\.gz is not a readable \.gz file"):
        open_source(str(path))
    monkeypatch.setattr(sources, "MAX_INFLATED", 2**20)
    path.write_bytes(gzip.compress(bytes(2**21)))
    with pytest.raises(ValueError, match="larger than 1048576 bytes"):
        open_source(str(path))


def test_mnist_gets_a_margin_and_its_labels(tmp_path: Path) -> None:
    images = np.full((3, 28, 28), 200, np.uint8)
    source = open_source(str(write_mnist(tmp_path, images, np.array([5, 0, 4]))), max_images=2)
    assert len(source.names) == 2
    assert source.labels is not None
    assert source.labels.tolist() == [5, 0]
    image = source.load(1)
    assert image.shape == (32, 32, 1)
    assert (image[2:30, 2:30] == 200).all()
    assert int(image.sum(dtype=int)) == 200 * 28 * 28


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no images"):
        open_source(str(write_mnist(tmp_path, np.zeros((0, 28, 28), np.uint8), np.zeros(0))))


def test_damaged_files_of_mnist_are_refused(tmp_path: Path) -> None:
    path = write_mnist(tmp_path, np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="has 3 images, but 2 labels"):
        open_source(str(path))
    for content in (b"", b"abc", struct.pack(">4I", 0x803, 2**31, 2**31, 2**31), struct.pack(">4I", 0x802, 0, 0, 0)):
        path.write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match="must be an idx file"):
            open_source(str(path))
    path.write_bytes(zlib.compress(b"x"))
    with pytest.raises(ValueError, match="not a readable"):
        open_source(str(path))
    with pytest.raises(ValueError, match="no known data set"):
        open_source(str(tmp_path / "other.gz"))


def test_lsun_is_read_by_its_keys_and_a_damaged_image_is_no_end(tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb", reason="LSUN needs lmdb")
    with lmdb.open(str(tmp_path), map_size=2**20) as database, database.begin(write=True) as transaction:
        for k in range(3):
            file = io.BytesIO()
            Image.new("RGB", (10 + k, 8), (k, 0, 0)).save(file, "WEBP", lossless=True)
            transaction.put(b"key%d" % k, file.getvalue() if k != 1 else b"damaged")
    source = open_source(str(tmp_path))
    assert source.names == ["key0", "key1", "key2"]
    assert source.load(2).shape == (8, 12, 3)
    assert source.labels is None
    with pytest.raises(ValueError, match="no image in a known format"):
        source.load(1)
    del source  # a process opens a database once at a time
    assert open_source(str(tmp_path), max_images=1).names == ["key0"]


def test_a_damaged_lmdb_is_named(tmp_path: Path) -> None:
    pytest.importorskip("lmdb", reason="LSUN needs lmdb")
    (tmp_path / "data.mdb").write_bytes(bytes(8192))
    with pytest.raises(ValueError, match="not a readable lmdb"):
        open_source(str(tmp_path))


def test_embedded_data_are_a_source_with_labels() -> None:
    source = open_source("digits:8", max_images=5)
    assert source.names[4] == "digits:8-4"
    assert source.labels is not None
    assert source.load(0).shape == (8, 8, 1)
