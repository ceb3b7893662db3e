"""Files of every kind come back as nested data; damaged and wrong ones get one clear line."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gankern.models import convert
from gankern.models.convert import reading
from gankern.models.convert.numpy_pickle import Array
from gankern.models.convert.reading import read
from gankern.models.convert.restricted_pickle import Stub


def state_dict() -> dict[str, torch.Tensor]:
    """With every kind of tensor that files have: views, shared storages, no elements, no dimensions, all types."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    state = net.state_dict()
    whole = torch.arange(12.0).reshape(3, 4)
    state |= {"view": whole[1:, ::2], "transposed": whole.t(), "empty": torch.zeros(0, 3), "number": torch.tensor(3)}
    dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool)
    return state | {str(dtype): torch.ones(2).to(dtype) for dtype in dtypes}


def assert_same(found: dict[str, Any], state: dict[str, Any]) -> None:
    assert list(found) == list(state)
    for key, value in state.items():
        assert torch.equal(found[key], value), key
        assert found[key].dtype == value.dtype


@pytest.mark.parametrize("is_zip", [True, False])
def test_files_of_torch_save(tmp_path: Path, is_zip: bool) -> None:
    content = {"g": state_dict(), "args": argparse.Namespace(size=256), "step": 3, "moments": [torch.ones(2), (1, "x")]}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=is_zip)
    found = read(tmp_path / "a.pt")
    assert_same(found["g"], content["g"])
    assert isinstance(found["args"], Stub)
    assert found["args"].state == {"size": 256}
    assert found["step"] == 3
    assert torch.equal(found["moments"][0], torch.ones(2))


@pytest.mark.parametrize("protocol", range(6))
def test_tensors_and_arrays_in_plain_pickles(tmp_path: Path, protocol: int) -> None:
    arrays = {
        "big endian": np.arange(6, dtype=">f4").reshape(2, 3),
        "in Fortran's order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "of integers": np.arange(4, dtype=np.int64),
        "without dimensions": np.array(2.5),
        "empty": np.zeros((0, 3)),
    }
    content = {"state": state_dict(), "parameter": torch.nn.Parameter(torch.ones(2)), "number": np.float32(2.5)}
    content |= {"arrays": arrays, "ordered": OrderedDict(a=1), "set": {3}, "data": bytearray(b"xyz")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read(tmp_path / "a.pkl")
    assert_same(found["state"], content["state"])
    assert torch.equal(found["parameter"], torch.ones(2))
    assert found["number"] == 2.5
    assert (found["ordered"], found["set"], bytes(found["data"])) == ({"a": 1}, [3], b"xyz")
    for name, expected in arrays.items():
        array = found["arrays"][name]
        assert isinstance(array, Array)
        np.testing.assert_array_equal(array.tensor().numpy(), expected)


def test_safetensors(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "a.safetensors", {"x": "y"})
    found = read(tmp_path / "a.safetensors")
    assert torch.equal(found["tensors"]["a"], torch.arange(3.0))
    assert found["metadata"] == {"x": "y"}


def test_a_folder_is_its_files_without_the_optimisers(tmp_path: Path) -> None:
    for name in ("G.pth", "D.pth", "G_optim.pth"):
        torch.save({"w": torch.ones(1)}, tmp_path / name)
    (tmp_path / "config.json").write_text('{"a": 1}')
    (tmp_path / "log.txt").write_text("nothing")
    found = read(tmp_path)
    assert found.keys() == {"G.pth", "D.pth", "config.json"}
    assert found["config.json"] == {"a": 1}


def kinds() -> dict[str, bytes]:
    """A small file of every kind."""
    from tests.models.convert.published_stylegan2 import random_state, shapes

    G = random_state(shapes(4, 1)[0], 1)
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"G_ema": G}, new)
    torch.save({"G_ema": G}, old, _use_new_zipfile_serialization=False)
    plain = pickle.dumps({"G_ema": G}, protocol=4)
    arrays = pickle.dumps({"G_ema": {key: value.numpy() for key, value in G.items()}}, protocol=2)
    return {"zip": new.getvalue(), "legacy": old.getvalue(), "pickle": plain, "arrays": arrays}


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as refused:
        convert.load(path)
    message = str(refused.value)
    assert path.name in message
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "arrays"])
def test_a_file_that_ends_too_early_gets_one_line(tmp_path: Path, kind: str) -> None:
    whole = kinds()[kind]
    path = tmp_path / "cut.pkl"
    cuts = {1, 2, 7, 9, len(whole) - 1, *(len(whole) * k // 60 for k in range(1, 60))}
    for length in sorted(cuts):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "arrays"])
def test_a_file_with_wrong_bytes_is_read_or_gets_one_line(tmp_path: Path, kind: str) -> None:
    whole = kinds()[kind]
    path = tmp_path / "damaged.pkl"
    chance = random.Random(3)
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 1, 5])):
            content[chance.randrange(min(len(content), 4000))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            convert.load(path)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017, it may also be read


WRONG = {
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "no checkpoint"),
    "a web page": (b"\n<!DOCTYPE html><html>quota exceeded</html>", "web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n", "git lfs pull"),
    "text": (b"hello, world\n" * 10, "no checkpoint"),
    "zeros": (bytes(1000), "no checkpoint"),
    "another zip file": (b"PK\x03\x04" + bytes(100), "truncated or damaged"),
    "another pickle": (pickle.dumps({"a": [1, 2]}), "none of the known checkpoints"),
    "two pickles": (pickle.dumps(1) * 2, "follows the pickle"),
    "safetensors cut short": ((200).to_bytes(8, "little") + b"{" + bytes(300), "truncated or damaged"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_gets_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "wrong.pkl"
    path.write_bytes(WRONG[name][0])
    assert WRONG[name][1] in refusal(path)


def test_an_empty_file_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "none.pkl").touch()
    assert "is empty" in refusal(tmp_path / "none.pkl")
    (tmp_path / "folder").mkdir()
    assert "without a checkpoint" in refusal(tmp_path / "folder")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        convert.load("no/such/file.pkl")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate(reading.MAX_BYTES + 1)
    assert os.stat(path).st_blocks < 100
    assert "expected at most 16" in refusal(path)


def test_a_program_for_torchscript_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "program.pt", "w") as archive:
        archive.writestr("program/constants.pkl", b"\x80\x02).")
        archive.writestr("program/code/__torch__.py", "import os")
    assert "TorchScript" in refusal(tmp_path / "program.pt")


def test_which_is_a_network(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which must be one of G, D, G_ema or None, got 'H'"):
        convert.load(tmp_path, which="H")
