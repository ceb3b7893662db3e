"""Style mixing."""

import torch
from torch import Tensor

from gankern.models.training.regularisers import mix_styles


def cutoffs(probability: float, num_ws: int, count: int) -> Tensor:
    """How many layers of each mix came from the first latents."""
    first, second = torch.zeros(2, num_ws, 3), torch.ones(2, num_ws, 3)
    mixes = torch.stack([mix_styles(first, second, probability) for _ in range(count)])  # [count, 2, num_ws, 3]
    own = mixes == 0
    assert torch.equal(own, own[:, :1, :, :1].expand_as(own)), "one cutoff for the whole batch"
    assert (own[:, 0, :-1, 0] >= own[:, 0, 1:, 0]).all(), "the first layers are the own ones"
    return own[:, 0, :, 0].sum(1)


def test_style_mixing_cuts_uniformly_after_the_first_layer() -> None:
    counts = torch.bincount(cutoffs(1.0, num_ws=5, count=2000), minlength=6)
    assert counts[0] == 0
    assert counts[5] == 0
    assert (counts[1:5] - 500).abs().max() < 100  # five standard deviations of a binomial are 97


def test_style_mixing_happens_with_its_probability() -> None:
    mixed = (cutoffs(0.3, num_ws=5, count=2000) < 5).sum()
    assert abs(mixed - 600) < 103  # five standard deviations
    assert (cutoffs(0.0, num_ws=5, count=50) == 5).all()


def test_one_layer_cannot_be_mixed() -> None:
    ws = torch.zeros(2, 1, 3)
    assert torch.equal(mix_styles(ws, torch.ones(2, 1, 3), 1.0), ws)
