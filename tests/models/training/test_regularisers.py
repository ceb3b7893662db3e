"""Style mixing and weight clipping."""

import torch
from torch import Tensor

from gankern.models.training.regularisers import clip_weights, mix_styles
from gankern.nn import EqualizedConv2d, EqualizedLinear


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


def test_clipping_bounds_the_weights_that_a_layer_computes_with() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        EqualizedConv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 1), torch.nn.Flatten(), EqualizedLinear(2, 5, lr_multiplier=0.1)
    )
    torch.nn.init.ones_(net[3].bias)
    before = [p.detach().clone() for p in net.parameters()]
    clip_weights(net, 0.05)
    gains = [net[0].weight_gain, 1, 1, 1, net[3].weight_gain, 0.1]
    for p, old, gain in zip(net.parameters(), before, gains, strict=True):
        torch.testing.assert_close(p.detach() * gain, (old * gain).clamp(-0.05, 0.05))
    assert all((p.detach() * gain).abs().max() > 0.0499 for p, gain in list(zip(net.parameters(), gains))[::2])
