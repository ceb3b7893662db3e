"""Options that make no sense are refused in one line, and options survive JSON."""

import json
from dataclasses import asdict, replace

import pytest
from tiny import OPTIONS
from tiny_growing import PROGAN

from gankern.models.training.options import TrainingOptions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": "wgan-gp"}, "loss must be one of logistic, .*, got wgan-gp"),
        ({"order": ("G", "D")}, r"order must hold each of G, D, ema once, got \('G', 'D'\)"),
        ({"ema_beta": 0.9}, "expected one of ema_kimg and ema_beta, got both or none"),
        ({"ema_kimg": None}, "expected one of ema_kimg and ema_beta, got both or none"),
        ({"ema_kimg": None, "ema_beta": 1.0}, r"ema_beta must be in \[0, 1\), got 1.0"),
        ({"ema_buffers": "average"}, "ema_buffers must be copy or lerp, got average"),
        ({"d_steps": 0}, "d_steps must be positive, got 0"),
        ({"d_lr": 0.0}, "d_lr must be positive, got 0.0"),
        ({"batch_gpu": 0}, "batch_gpu must be positive, got 0"),
        ({"gp_weight": -1.0}, "gp_weight must not be negative, got -1.0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **change)


@pytest.mark.parametrize("options", [OPTIONS, PROGAN], ids=["plain", "growing"])
def test_options_survive_json(options: TrainingOptions) -> None:
    assert TrainingOptions.from_json(json.loads(json.dumps(asdict(options)))) == options


def test_options_from_before_there_were_families_mean_what_they_meant() -> None:
    new = ("loss", "gp_weight", "gp_target", "drift_weight", "class_weight", "d_lr", "adam_eps", "d_steps", "batch_gpu")
    new += ("order", "ema_beta", "ema_start", "ema_buffers", "growth")
    old = {name: value for name, value in asdict(OPTIONS).items() if name not in new}
    assert TrainingOptions.from_json(old) == OPTIONS
    assert (OPTIONS.loss, OPTIONS.order, OPTIONS.d_steps, OPTIONS.growth) == ("logistic", ("G", "D", "ema"), 1, None)
