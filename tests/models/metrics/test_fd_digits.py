"""FD-digits."""

import pytest
import torch
from torch import Tensor, nn

from gankern.models.metrics.fd_digits import FDDigits, fd_digits
from gankern.models.training.data import ImageData, open_data, to_float


class Copier(nn.Module):
    """A generator that shows real digits of the wanted class, rotated half way round to the degree of `noise`."""

    z_dim = 4

    def __init__(self, data: ImageData, noise: float) -> None:
        super().__init__()
        self.noise = nn.Parameter(torch.tensor(noise))
        labels = torch.from_numpy(data.labels)
        self.of_class = [to_float(data.images[labels == k]) for k in range(10)]

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        chosen = [self.of_class[int(k)] for k in c.argmax(1)]
        x = torch.stack([images[torch.randint(len(images), ())] for images in chosen])
        return x + self.noise * torch.randn_like(x)


@pytest.fixture(scope="module")
def data() -> ImageData:
    return open_data("digits:16", cond=True)


@pytest.fixture(scope="module")
def of_real(data: ImageData) -> FDDigits:
    return fd_digits(Copier(data, 0.0), data)


def test_real_digits_score_best(of_real: FDDigits) -> None:
    assert of_real.judge_accuracy > 0.95
    assert of_real.class_accuracy > 0.97
    assert 0 <= of_real.fd < of_real.fd_floor


def test_noisy_digits_score_worse(data: ImageData, of_real: FDDigits) -> None:
    noisy = fd_digits(Copier(data, 0.5), data)
    assert noisy.fd > 3 * of_real.fd_floor
    assert noisy.class_accuracy < of_real.class_accuracy
    assert (noisy.fd_floor, noisy.judge_accuracy) == (of_real.fd_floor, of_real.judge_accuracy)


def test_the_same_generator_scores_the_same_and_random_numbers_stay_alone(data: ImageData, of_real: FDDigits) -> None:
    before = torch.get_rng_state()
    assert fd_digits(Copier(data, 0.0), data) == of_real
    assert torch.equal(torch.get_rng_state(), before)


def test_data_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="class numbers"):
        fd_digits(nn.Identity(), open_data("digits:8"))
