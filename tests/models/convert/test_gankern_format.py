"""This package's own files: safetensors, and the snapshots of runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from gankern.models import cli, convert
from gankern.models.config import FAMILIES, resolve
from gankern.models.convert.checkpoint import NETWORKS, Checkpoint, preset_of

SMALL = {"stylegan2": "digits", "progan": "progan-digits", "stylegan": "stylegan-digits"}


def checkpoint(family: str) -> Checkpoint:
    model, _ = resolve(SMALL[family], 16, 1, 3)
    found = Checkpoint(family, model, "somewhere", preset=SMALL[family], notes=["a note"])
    for seed, name in enumerate(NETWORKS):
        torch.manual_seed(seed)
        setattr(found, name, FAMILIES[family].build(model)[name == "D"].eval())
    return found


@pytest.mark.parametrize("family", SMALL)
def test_out_and_in_is_the_identity(tmp_path: Path, family: str) -> None:
    one = checkpoint(family)
    convert.save(one, tmp_path / "a.safetensors")
    found = convert.load(tmp_path / "a.safetensors")
    assert (found.family, found.model, found.source, found.preset) == (family, one.model, "somewhere", one.preset)
    assert found.notes == ["a note"]
    for name, net in one.networks().items():
        state = getattr(found, name).state_dict()
        assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    convert.save(found, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("which", NETWORKS)
def test_one_network_of_it(tmp_path: Path, which: str) -> None:
    convert.save(checkpoint("stylegan2"), tmp_path / "a.safetensors")
    assert convert.load(tmp_path / "a.safetensors", which=which).networks().keys() == {which}


def test_the_header_is_json_and_the_tensors_have_plain_names(tmp_path: Path) -> None:
    convert.save(checkpoint("progan"), tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["gankern"])
    assert header["family"] == "progan"
    assert header["model"]["img_resolution"] == 16
    assert header["grown"]["G"] == [16, False]
    assert "G_ema.b4.fc.weight" in load_file(tmp_path / "a.safetensors")


def rewritten(path: Path, change: Any) -> None:
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["gankern"])
    change(header, tensors)
    save_file(tensors, path, {"gankern": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header, tensors: tensors.pop("D.b4.out.weight"), "D lacks b4.out.weight"),
        (lambda header, tensors: tensors.update({"D.x": torch.ones(1)}), "D has unknown x"),
        (lambda header, tensors: tensors.update({"E.x": torch.ones(1)}), "E.x belongs to none of"),
        (lambda header, tensors: header.update(family="os"), "family must be one of"),
        (lambda header, tensors: header.update(format=9), "format 9, expected 1"),
        (lambda header, tensors: header["model"].update(map_depth=1 << 40), "an option of the networks is larger"),
        (lambda header, tensors: header["model"].pop("z_dim"), "its content is damaged"),
        (lambda header, tensors: header["model"].update(z_dim=7), r"must give shape"),
        (lambda header, tensors: header.pop("family"), "its content is damaged"),
    ],
)
def test_a_file_that_does_not_agree_with_itself_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.safetensors"
    convert.save(checkpoint("stylegan2"), path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=message) as refused:
        convert.load(path)
    assert len(str(refused.value).splitlines()) == 1


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("runs")
    small = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.016", "--batch", "8", "--precision", "fp32"]
    assert cli.main(["train", *small, "--outdir", str(outdir)]) == 0
    return next(outdir.iterdir())


def test_a_run_is_a_checkpoint(run_dir: Path, tmp_path: Path) -> None:
    found = convert.load(run_dir)
    assert (found.family, found.preset, found.source) == ("stylegan2", "digits", "gankern")
    assert found.data is not None
    assert found.data.source == "digits:8"
    state = torch.load(next(run_dir.glob("*.pt")), weights_only=True)["state"]
    for name, net in found.networks().items():
        assert all(torch.equal(value, state[name][key]) for key, value in net.state_dict().items())
    target = tmp_path / "a.safetensors"
    assert cli.main(["convert", str(run_dir), str(target), "--which", "G_ema"]) == 0
    for source, out in ((run_dir, "x"), (target, "y")):
        assert cli.main(["sample", str(source), "--seeds", "1", "--outdir", str(tmp_path / out)]) == 0
    assert (tmp_path / "x/grid.png").read_bytes() == (tmp_path / "y/grid.png").read_bytes()


def test_a_snapshot_with_another_number_is_refused(run_dir: Path, tmp_path: Path) -> None:
    content = torch.load(next(run_dir.glob("*.pt")), weights_only=True)
    content["state"]["G"]["synthesis.b4.const"][0, 0, 0] += 1
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="checksum"):
        convert.load(tmp_path / "a.pt")


@pytest.mark.parametrize("family", SMALL)
def test_a_published_configuration_is_found_by_its_networks(family: str) -> None:
    model, _ = resolve(SMALL[family], 16, 1, 3)
    assert preset_of(family, model) == SMALL[family]
    assert preset_of(family, replace(model, z_dim=7)) is None


def test_networks_of_another_family_have_no_place_in_a_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stylegan2-ada holds stylegan2, got progan"):
        convert.save(checkpoint("progan"), tmp_path / "x", "stylegan2-ada")
    with pytest.raises(ValueError, match="--to must be one of gankern"):
        convert.save(checkpoint("progan"), tmp_path / "x", "tensorflow")
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = checkpoint("progan")
    convert.save(one, tmp_path / "a.safetensors")
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    for use in (lambda: convert.load(tmp_path / "a.safetensors"), lambda: convert.save(one, tmp_path / "b")):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'gankern\[convert\]'"):
            use()
