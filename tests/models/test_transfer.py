"""Runs that begin with the weights of a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gankern.models import cli, convert
from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.convert.checkpoint import NETWORKS, Checkpoint
from gankern.models.training.state import TrainingState, new_state
from gankern.models.transfer import is_snapshot, options_for_transfer, transfer
from tests.models.convert.test_stylegan2_ada import networks as published_networks
from tests.models.convert.test_stylegan2_ada import write_pickle

NARROW = {"channel_base": 64, "channel_max": 8, "fmap_base": 64, "fmap_max": 8, "ch": 4, "z_dim": 20, "map_depth": 1}


def narrow(cfg: str, c_dim: int = 3, **options: Any) -> tuple[str, Any, Any]:
    """The family of a configuration, its networks' options as narrow as they go, and its training."""
    model, training = resolve(cfg, 16, 1, c_dim, precision="fp32")
    options = {**NARROW, **options}
    return find_preset(cfg)[0], replace(model, **{k: v for k, v in options.items() if hasattr(model, k)}), training  # type: ignore[type-var]


def trained(cfg: str, which: tuple[str, ...] = NETWORKS, **options: Any) -> Checkpoint:
    """A checkpoint of networks with other weights than a run begins with."""
    family, model, _ = narrow(cfg, **options)
    found = Checkpoint(family, model, "somewhere")
    for seed, name in enumerate(which, 10):
        torch.manual_seed(seed)
        setattr(found, name, FAMILIES[family].build(model)[name == "D"].eval())
    return found


def fresh(cfg: str, **options: Any) -> tuple[TrainingState, str, Any]:
    family, model, training = narrow(cfg, **options)
    torch.manual_seed(1)
    return new_state(*FAMILIES[family].build(model), training, torch.device("cpu")), family, model


def same(state: Any, name: str, other: torch.nn.Module) -> set[str]:
    """The tensors of a run's network that are those of another."""
    theirs = other.state_dict()
    return {k for k, v in getattr(state, name).state_dict().items() if k in theirs and torch.equal(v, theirs[k])}


@pytest.mark.parametrize("cfg", ["digits", "progan-digits", "stylegan-digits", "biggan-digits"])
def test_networks_of_the_same_sizes_are_taken_over_whole(cfg: str) -> None:
    checkpoint, (state, family, model) = trained(cfg), fresh(cfg)
    lines = transfer(checkpoint, family, model, state)
    for name, line in zip(NETWORKS, lines, strict=True):
        assert same(state, name, getattr(checkpoint, name)) >= set(getattr(checkpoint, name).state_dict()) - {"alpha"}
        assert line.startswith(name)
        assert "fresh" not in line


def test_optimisers_and_position_are_those_of_a_new_run() -> None:
    state, family, model = fresh("digits")
    transfer(trained("digits"), family, model, state)
    assert state.cur_nimg == 0
    assert not state.G_opt.state
    assert not state.D_opt.state


@pytest.mark.parametrize("frozen", [0, 4])
def test_other_classes_leave_the_embedding_fresh_and_frozen_layers_are_filled(frozen: int) -> None:
    checkpoint = trained("digits", c_dim=5)
    family, model, training = narrow("digits", c_dim=3)
    torch.manual_seed(1)
    state = new_state(*FAMILIES[family].build(model), replace(training, freeze_d=frozen), torch.device("cpu"))
    embedding = state.G.mapping.embed.weight.detach().clone()
    lines = transfer(checkpoint, family, model, state)
    assert "; fresh: mapping.embed.weight" in lines[0]
    assert lines[-1] == "networks  c_dim 5 in the file, 3 in the run"
    assert torch.equal(state.G.mapping.embed.weight, embedding)
    assert torch.equal(state.G_ema.mapping.embed.weight, embedding)
    for name in NETWORKS:
        left = set(getattr(state, name).state_dict()) - same(state, name, getattr(checkpoint, name))
        assert left == {"mapping.embed.weight"}


@pytest.mark.parametrize("which", [("G_ema",), ("G", "D")])
def test_what_the_file_lacks_comes_from_what_it_has_or_stays_fresh(which: tuple[str, ...]) -> None:
    checkpoint, (state, family, model) = trained("digits", which), fresh("digits")
    before = {key: value.clone() for key, value in state.D.state_dict().items()}
    lines = transfer(checkpoint, family, model, state)
    generator = getattr(checkpoint, which[0])
    for name in ("G", "G_ema"):
        assert same(state, name, generator) == set(generator.state_dict())
    if "D" not in which:
        assert lines[1] == "D         fresh: the file has none"
        assert all(torch.equal(value, before[key]) for key, value in state.D.state_dict().items())


def test_a_smaller_network_gives_its_resolutions_to_a_larger_one() -> None:
    checkpoint, (state, family, model) = trained("digits", img_resolution=8), fresh("digits", channel_base=64)
    transfer(checkpoint, family, model, state)
    assert {"synthesis.b8.conv0.weight", "mapping.fc0.weight"} <= same(state, "G", checkpoint.G)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cfg", "options", "message"),
    [
        ("progan-digits", {}, "the file holds networks of progan, the run trains stylegan2"),
        (
            "digits",
            {"z_dim": 7, "w_dim": 7, "channel_base": 48, "channel_max": 7},
            "no weight .* fits the run's: .*channel_base 48 in",
        ),
    ],
)
def test_what_does_not_fit_is_refused(cfg: str, options: dict[str, int], message: str) -> None:
    state, family, model = fresh("digits", w_dim=20)
    checkpoint = trained(cfg, ("G",), **options)
    with pytest.raises(ValueError, match=message):
        transfer(checkpoint, family, model, state)


@pytest.mark.parametrize("cfg", ["digits", "progan-digits", "biggan-digits"])
def test_a_transferred_run_has_nothing_to_grow_and_averages_from_the_start(cfg: str) -> None:
    training = options_for_transfer(resolve(cfg, 32, 1, 0)[1])
    assert (training.ema_rampup, training.ema_start) == (None, 0)
    assert training.growth is None or training.growth.first_resolution == training.growth.last_resolution == 32


SMALL = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.008", "--batch", "4", "--cbase", "32", "--fp32"]


def run(*args: object) -> int:
    return cli.main(["train", *(str(arg) for arg in args)])


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--outdir", tmp_path) == 0
    snapshot = next((tmp_path / "00000-digits-cond").glob("*.pt"))
    assert is_snapshot(snapshot)
    capsys.readouterr()
    again = ["--transfer", snapshot.parent, "--freezed", "3", "--glr", "1e-30", "--dlr", "1e-30"]
    assert run(*SMALL, *again, "--outdir", tmp_path) == 0
    assert "transfer" in capsys.readouterr().out
    new = tmp_path / "00001-digits-cond"
    assert json.loads((new / "training_options.json").read_text())["training"]["freeze_d"] == 3
    first, second = (convert.load(next(folder.glob("*.pt"))) for folder in (snapshot.parent, new))
    for a, b in ((first.D, second.D), (first.G, second.G)):
        assert a is not None
        assert b is not None
        b_state = dict(b.named_parameters())
        assert all(torch.equal(value, b_state[name]) for name, value in a.named_parameters())
    assert run("--resume", new, "--kimg", "0.012", "--device", "cpu", "--freezed", "3") == 0
    assert run("--resume", new, "--device", "cpu", "--freezed", "2") == 1
    assert "--freezed: the run has 3, got 2" in capsys.readouterr().err


def test_resuming_a_published_checkpoint_is_a_transfer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "published.pkl"
    write_pickle(path, published_networks(img_channels=1))
    assert not is_snapshot(path)
    options = ["--data", "digits:16", "--cfg", "digits", "--cond", "0", "--cbase", "64", "--cmax", "12", "--fp32"]
    short = ["--device", "cpu", "--kimg", "0.004", "--batch", "4", "--outdir", tmp_path / "runs"]
    assert run("--resume", path, *options, *short) == 0
    printed = capsys.readouterr().out
    assert "no snapshot of a run to go on with, so --transfer" in printed
    assert "networks  z_dim 6 in the file, 64 in the run" in printed
    assert "at 0 kimg" not in printed


def test_freezing_what_has_learned_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--freezed", "2", "--outdir", tmp_path) == 1
    assert "give --transfer" in capsys.readouterr().err
    assert run(*SMALL, "--resume", "latest", "--transfer", "x.pkl", "--outdir", tmp_path) == 1
    assert "expected one of them, got both" in capsys.readouterr().err
