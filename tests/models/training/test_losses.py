"""The adversarial losses against the formulas of the papers."""

import pytest
import torch

from gankern.models.training.losses import LOSSES, RELATIVISTIC_LOSSES

scores = torch.linspace(-6, 6, 25, dtype=torch.float64)[:, None]
log_sigmoid, log_one_minus = scores.sigmoid().log(), (1 - scores.sigmoid()).log()
zero = torch.zeros_like(scores)

# What is minimised: by G on generated images; by D on generated and on real ones.
FORMULAS = {
    "logistic": (-log_sigmoid, -log_one_minus, -log_sigmoid),
    "logistic-saturating": (log_one_minus, -log_one_minus, -log_sigmoid),
    "wgan": (-scores, scores, -scores),
    "hinge": (-scores, torch.maximum(zero, 1 + scores), torch.maximum(zero, 1 - scores)),
    "lsgan": ((scores - 1) ** 2 / 2, scores**2 / 2, (scores - 1) ** 2 / 2),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("which", [0, 1, 2], ids=["generator", "discriminator-fake", "discriminator-real"])
def test_a_loss_is_its_formula(name: str, which: int) -> None:
    torch.testing.assert_close(LOSSES[name][which](scores), FORMULAS[name][which], rtol=1e-10, atol=1e-12)


def test_relativistic_losses_are_their_formulas() -> None:
    others = scores.flip(0) / 2 + 1
    paired = (scores - others).sigmoid().log()
    averaged = (scores - others.mean()).sigmoid().log() + (1 - (others - scores.mean()).sigmoid()).log()
    torch.testing.assert_close(RELATIVISTIC_LOSSES["rpgan"](scores, others), -paired, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(RELATIVISTIC_LOSSES["ragan"](scores, others), -averaged, rtol=1e-10, atol=1e-12)
