"""Options that replace single values of a configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from gankern.models import cli, overrides
from gankern.models.config import Config, DataOptions, find_preset, resolve


def changed(*options: str, cfg: str = "digits") -> tuple[dict[str, Any], dict[str, Any]]:
    """What the options change: of the networks' options, and of the training's."""
    args = cli.parser().parse_args(["train", *options])
    before = resolve(cfg, 32, 1, 10)
    found = []
    for old, new in zip(before, overrides.with_overrides(args, cfg, *before), strict=True):
        a, b = vars(old), vars(new)
        found.append({name: b[name] for name in a if a[name] != b[name]})
    return found[0], found[1]


PLAIN = {"gp_weight": 0.0, "drift_weight": 0.0}
NO_R1 = {"r1_gamma": 0.0, "r1_interval": 0}


@pytest.mark.parametrize(
    ("cfg", "loss", "training"),
    [
        ("digits", "logistic", {}),
        ("digits", "hinge", {"loss": "hinge"}),
        ("digits", "rpgan", {"loss": "rpgan"}),
        ("digits", "wgan", {"loss": "wgan", "d_clip": 0.01, **NO_R1}),
        ("digits", "wgan-gp", {"loss": "wgan", "gp_weight": 10.0, "drift_weight": 0.001, **NO_R1}),
        ("progan-digits", "wgan-gp", {}),
        ("progan-digits", "lsgan", {"loss": "lsgan", **PLAIN}),
        ("progan-digits", "wgan", {"d_clip": 0.01, **PLAIN}),
        ("biggan-digits", "ragan", {"loss": "ragan"}),
    ],
)
def test_a_loss_brings_what_belongs_to_it(cfg: str, loss: str, training: dict[str, Any]) -> None:
    assert changed("--loss", loss, cfg=cfg) == ({}, training)


def test_every_loss_of_the_command_is_one_of_the_training() -> None:
    _, training = resolve("digits", 32, 1, 10)
    for loss in overrides.LOSS_OPTIONS:
        assert overrides.loss_name(overrides.with_loss(training, loss)) == loss


@pytest.mark.parametrize(
    ("options", "cfg", "model", "training"),
    [
        (["--r2-gamma", "2"], "digits", {}, {"r2_gamma": 2.0}),
        (["--d-reg-every", "1"], "digits", {}, {"r1_interval": 1}),
        (["--g-reg-every", "6"], "auto", {}, {"pl_interval": 6}),
        (["--pl-weight", "1", "--g-reg-every", "6"], "digits", {}, {"pl_weight": 1.0, "pl_interval": 6}),
        (["--d-steps", "5"], "digits", {}, {"d_steps": 5}),
        (["--dlr", "0.1"], "digits", {}, {"d_lr": 0.1}),
        (["--glr", "0.1"], "digits", {}, {"lr": 0.1, "d_lr": 0.0025}),
        (["--glr", "0.1", "--dlr", "0.2"], "digits", {}, {"lr": 0.1, "d_lr": 0.2}),
        (["--glr", "0.1"], "biggan-digits", {}, {"lr": 0.1}),
        (["--cbase", "4096", "--cmax", "64"], "digits", {"channel_base": 4096, "channel_max": 64}, {}),
        (["--cbase", "4096", "--cmax", "64"], "progan-digits", {"fmap_base": 4096, "fmap_max": 64}, {}),
        (["--ch", "16"], "biggan-digits", {"ch": 16}, {}),
        (["--map-depth", "3", "--mbstd-group", "8"], "digits", {"map_depth": 3, "mbstd_group_size": 8}, {}),
        (["--nhwc", "0"], "digits", {"channels_last": False}, {}),
        (["--channels-last", "0"], "biggan-digits", {"channels_last": False}, {}),
    ],
)
def test_an_option_replaces_one_value(
    options: list[str], cfg: str, model: dict[str, Any], training: dict[str, Any]
) -> None:
    assert changed(*options, cfg=cfg) == (model, training)


def test_the_learning_rates_of_a_growing_generator_change_in_proportion() -> None:
    before = resolve("stylegan-8gpus", 256, 3, 0)
    args = cli.parser().parse_args(["train", "--glr", "0.002"])
    _, training = overrides.with_overrides(args, "stylegan-8gpus", *before)
    assert training.growth
    assert training.growth.lr == {128: 0.003, 256: 0.004}
    assert (training.lr, training.d_lr) == (0.002, 0.001)


@pytest.mark.parametrize(
    ("cfg", "options", "message"),
    [
        ("biggan-digits", ["--cbase", "4096"], "--cbase means nothing to the networks of --cfg biggan-digits"),
        ("digits", ["--ch", "16"], "--ch means nothing to the networks of --cfg digits"),
        ("digits", ["--cmax", "0"], "--cmax must be positive, got 0"),
        ("digits", ["--loss", "wgan-gp", "--gamma", "1"], "--gamma weighs what .*: give --d-reg-every as well"),
        ("digits", ["--pl-weight", "1"], "--pl-weight weighs what .*: give --g-reg-every as well"),
        ("digits", ["--g-reg-every", "4"], "--g-reg-every is the interval of what has no weight: give --pl-weight"),
        ("progan-digits", ["--d-reg-every", "4"], "--d-reg-every is .* no weight: give --gamma or --r2-gamma"),
        ("progan-digits", ["--r2-gamma", "1"], "--r2-gamma weighs what .*: give --d-reg-every as well"),
    ],
)
def test_what_does_not_fit_is_refused(cfg: str, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(*options, cfg=cfg)


def test_weight_clipping_is_refused_for_spectral_norm_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "--cfg", "biggan-digits", "--loss", "wgan", "--device", "cpu", "--outdir", str(tmp_path / "runs")]
    assert cli.main(args) == 1
    assert "d_clip must be 0 for a discriminator with spectral norm" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_must_agree_with_the_options_given() -> None:
    options = ["--loss", "rpgan", "--r2-gamma", "2", "--glr", "0.1", "--cbase", "4096"]
    args = cli.parser().parse_args(["train", *options])
    model, training = overrides.with_overrides(args, "digits", *resolve("digits", 32, 1, 10))
    saved = Config("digits", find_preset("digits")[0], DataOptions("digits", "digits", 1797, True), model, training)
    saved = Config.from_json(json.loads(json.dumps(saved.to_json())))
    assert overrides.differing(args, saved) == []
    other = cli.parser().parse_args(["train", "--loss", "hinge", "--dlr", "1", "--cbase", "8", "--ch", "4"])
    assert overrides.differing(other, saved) == [
        "  --loss: the run has rpgan, got hinge",
        "  --dlr: the run has 0.0025, got 1.0",
        "  --cbase: the run has 4096, got 8",
        "  --ch: the run has None, got 4",
    ]


def test_switches_of_a_gpu_are_refused_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--tf32", "1", "--device", "cpu", "--outdir", str(tmp_path)]) == 1
    assert "--tf32 is for a GPU, got --device cpu" in capsys.readouterr().err


def test_fp32_is_a_precision() -> None:
    assert cli.parser().parse_args(["train", "--fp32"]).precision == "fp32"
