"""The benchmarks' loop in plain PyTorch trains as ours does: what is compared is the same training."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import OPTIONS, TinyDiscriminator, TinyGenerator

from bench.models.iteration import Training
from bench.models.loop import OwnLoop, kinds
from bench.models.plain_loop import PlainLoop
from gankern.models.training.data import ImageArray, open_data
from gankern.models.training.options import TrainingOptions

PENALTIES: dict[str, dict[str, Any]] = {
    "lazy-r1-and-path-length": {},
    "r1-in-every-step": {"r1_interval": 1, "order": ("D", "ema", "G"), "pl_weight": 0.0, "pl_interval": 0},
    "wgan-gp": {"loss": "wgan", "gp_weight": 10.0, "drift_weight": 0.001, "r1_gamma": 0.0, "r1_interval": 0},
    "hinge-joint": {"loss": "hinge", "d_joint": True, "r1_gamma": 0.0, "r1_interval": 0, "d_lr": 0.02},
}


def training(options: TrainingOptions) -> Training:
    torch.manual_seed(1)
    return Training(TinyGenerator(), TinyDiscriminator(), options)


def zero_gradients(opt: torch.optim.Optimizer, set_to_none: bool) -> None:
    """Our loop gives Adam a gradient of 0 where plain PyTorch gives none and Adam leaves the parameter out."""
    for group in opt.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)


@pytest.mark.parametrize("change", PENALTIES)
def test_both_loops_have_the_same_losses(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.optim.Adam, "zero_grad", zero_gradients)
    options, digits = replace(OPTIONS, **PENALTIES[change]), open_data("digits:8", cond=True)
    images = digits.read(torch.arange(64).numpy())
    labels = torch.eye(10)[torch.from_numpy(digits.labels[:64])]
    own = OwnLoop(training(options), ImageArray("digits", images, labels.numpy()))
    plain = PlainLoop(training(options), images, labels)
    batches = [(images[k : k + 8], labels[k : k + 8]) for k in range(0, 64, 8)]
    own.reals, plain.reals = iter(batches), iter(batches)
    for index in range(len(batches)):
        for loop in (own, plain):
            torch.manual_seed(index)
            loop.iteration(index)
        found = own.losses()
        for name, value in plain.losses.items():
            assert float(value) == pytest.approx(found[name], rel=1e-4), (index, name)
    for ours, theirs in zip(own.state.G.parameters(), plain.G.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_kinds_of_iterations_stand_for_all() -> None:
    shares = kinds(replace(OPTIONS, pl_interval=4, r1_interval=16))
    assert {index: float(share) for index, share in shares.items()} == {0: 1 / 16, 1: 12 / 16, 4: 3 / 16}
    assert kinds(replace(OPTIONS, pl_weight=0.0, r1_interval=1)) == {0: 1}
