"""`gankern train --aug`: from the option to what the run leaves behind."""

import json
from pathlib import Path

import pytest
from test_cli import SMALL, gankern

from gankern.models.config import resolve

RUN = ["train", *SMALL, "--kimg", "0.128", "--cfg", "digits", "--cond", "0"]


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from gankern.models.presets import stylegan2

    monkeypatch.setitem(stylegan2.PRESETS, "digits", replace(stylegan2.PRESETS["digits"], tick=0.032))


def run_dir(outdir: Path) -> Path:
    return next(outdir.glob("00000-*"))


def test_ada_shows_p_in_the_statistics_of_every_tick(tmp_path: Path) -> None:
    ada = ["--aug", "ada", "--target", "-0.9", "--ada-kimg", "0.5"]  # a target that is always exceeded
    assert gankern(*RUN, *ada, "--outdir", tmp_path) == 0
    lines = [json.loads(line) for line in (run_dir(tmp_path) / "stats.jsonl").read_text().splitlines()]
    p = [line["Progress/augment"]["mean"] for line in lines]
    assert len(p) == 4
    assert p == sorted(p)
    # The mean over each tick's 4 iterations: p moves after the fourth, by 32 images of 500.
    assert p == pytest.approx([0.016, 0.08, 0.144, 0.208])
    training = json.loads((run_dir(tmp_path) / "training_options.json").read_text())["training"]
    assert (training["aug"], training["augpipe"], training["ada_target"]) == ("ada", "bgc", -0.9)


def test_a_resumed_run_keeps_its_augmentation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gankern(*RUN, "--kimg", "0.064", "--aug", "fixed", "--p", "0.25", "--outdir", tmp_path) == 0
    resume = ["train", "--device", "cpu", "--outdir", tmp_path, "--resume", "latest", "--kimg", "0.096"]
    assert gankern(*resume, "--aug", "ada") == 1
    assert "--aug: the run has fixed, got ada" in capsys.readouterr().err
    assert gankern(*resume) == 0
    last = json.loads((run_dir(tmp_path) / "stats.jsonl").read_text().splitlines()[-1])
    assert last["Progress/augment"]["mean"] == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--p", "0.5"], "--p must go with --aug fixed, got --aug noaug"),
        (["--aug", "ada", "--p", "0.5"], "--p must go with --aug fixed, got --aug ada"),
        (["--aug", "fixed"], "(--p) must be positive with aug = fixed, got 0"),
        (["--aug", "diffaugment", "--augpipe", "bg"], "--augpipe must go with --aug ada or fixed"),
        (["--aug", "ada", "--policy", "color"], "--policy must go with --aug diffaugment, got --aug ada"),
        (["--aug", "ada", "--augpipe", "bgd"], "augpipe must be one of blit, "),
        (["--aug", "diffaugment", "--policy", "colour"], "policy must be of color, translation, cutout"),
    ],
)
def test_options_that_nothing_reads_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert gankern(*RUN, *options, "--outdir", tmp_path) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_presets_augment_as_published() -> None:
    aug = {name: resolve(name, 256, 3, 0)[1].aug for name in ("auto", "paper256", "cifar", "stylegan2", "config-e")}
    assert aug == {"auto": "ada", "paper256": "ada", "cifar": "ada", "stylegan2": "noaug", "config-e": "noaug"}
    assert resolve("digits", 32, 1, 10)[1].aug == "noaug"
