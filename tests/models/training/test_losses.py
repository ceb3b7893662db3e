"""The adversarial losses against the formulas of the paper."""

import pytest
import torch

from gankern.models.training.losses import logistic_d_fake, logistic_d_real, nonsaturating_g

scores = torch.linspace(-6, 6, 25, dtype=torch.float64)[:, None]
log_sigmoid, log_one_minus = scores.sigmoid().log(), (1 - scores.sigmoid()).log()


@pytest.mark.parametrize(
    ("loss", "formula"),
    [(nonsaturating_g, -log_sigmoid), (logistic_d_real, -log_sigmoid), (logistic_d_fake, -log_one_minus)],
    ids=["generator", "discriminator-real", "discriminator-fake"],
)
def test_loss_is_the_negative_log_likelihood(loss, formula: torch.Tensor) -> None:
    torch.testing.assert_close(loss(scores), formula, rtol=1e-10, atol=1e-12)
