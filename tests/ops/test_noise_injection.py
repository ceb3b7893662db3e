"""noise_injection and its module."""

from __future__ import annotations

import pytest
import torch

from gankern import noise_injection
from gankern.nn import NoiseInjection
from gankern.reference import noise_injection as reference

X = torch.randn([2, 3, 4, 5], generator=torch.Generator().manual_seed(0))
NOISE = torch.randn([2, 1, 4, 5], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("strength", [torch.tensor(0.5), torch.tensor([0.0, 1.0, -2.0]), 0.5, 1, 0])
def test_adds_strength_times_noise(strength):
    by_channel = strength[:, None, None] if isinstance(strength, torch.Tensor) and strength.ndim else strength
    torch.testing.assert_close(noise_injection(X, NOISE, strength), X + by_channel * NOISE)


def test_equals_the_reference():
    strength = torch.tensor(0.3)
    torch.testing.assert_close(noise_injection(X, NOISE, strength), reference.noise_injection(X, NOISE, strength))


@pytest.mark.parametrize(
    ("noise", "strength", "error", "text"),
    [
        (None, 1, TypeError, "gankern.noise_injection: noise must be a torch.Tensor, got NoneType"),
        (NOISE, "1", TypeError, "gankern.noise_injection: strength must be a number, got str"),
        (NOISE[:, :, 1:], 1, ValueError, "noise must have shape [H, W], [1, 1, H, W] or [N, 1, H, W]"),
        (NOISE, torch.zeros([2]), ValueError, "strength must have shape [] or [C] = [3], got [2]"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(noise, strength, error, text):
    with pytest.raises(error) as caught:
        noise_injection(X, noise, strength)
    assert text in str(caught.value)


@pytest.mark.parametrize("num_channels", [None, 3])
def test_a_new_module_changes_nothing_and_learns_its_strength(num_channels):
    layer = NoiseInjection(num_channels)
    assert [(name, p.numel()) for name, p in layer.named_parameters()] == [("strength", num_channels or 1)]
    y = layer(X)
    assert torch.equal(y, X)
    y.square().sum().backward()
    assert layer.strength.grad.abs().min() > 0


def test_a_module_draws_another_noise_for_every_sample_and_one_for_all_channels():
    layer = NoiseInjection()
    torch.nn.init.ones_(layer.strength)
    noise = layer(X) - X
    torch.testing.assert_close(noise[:, 0], noise[:, 1], rtol=0, atol=1e-6)
    assert not torch.allclose(noise[0], noise[1])
    torch.testing.assert_close(layer(X, NOISE), X + NOISE)
