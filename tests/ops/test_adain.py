"""adain: known values, a large mean, its module, its errors."""

from __future__ import annotations

import pytest
import torch

import gankern
from gankern import adain
from gankern.nn import AdaIN

X = torch.zeros([2, 3, 4, 4])


def able(backend, device):
    reason = gankern.dispatch.why_not("style_epilogue", backend, device)
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_gives_every_channel_its_mean_and_deviation(layout, backend, device):
    able(backend, device)
    x = torch.randn([2, 70, 9, 11], dtype=torch.float64, device=device).contiguous(memory_format=layout)
    scale, shift = torch.rand([2, 2, 70], dtype=torch.float64, device=device)
    y = adain(x, scale, shift, backend=backend)
    torch.testing.assert_close(y.mean([2, 3]), shift)
    torch.testing.assert_close(y.std([2, 3], correction=0), scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_a_large_mean_does_no_harm(layout, backend, device):
    """The difference of two sums of squares would have no digit left."""
    able(backend, device)
    x = (torch.randn([2, 5, 40, 30], device=device) + 4096).contiguous(memory_format=layout)
    expected = adain(x.double(), backend="eager")
    error = (adain(x, backend=backend) - expected).abs().max().item()
    assert error < 1e-3  # the mean itself is known to 2^-12


def test_a_constant_channel_becomes_the_shift(backend, device):
    able(backend, device)
    shift = torch.randn([2, 3], device=device)
    y = adain(X.to(device) + 7, None, shift, backend=backend)
    torch.testing.assert_close(y, shift[:, :, None, None].expand_as(y))


def test_the_module_learns_scale_and_shift_from_w():
    layer = AdaIN(6, 3)
    assert layer.affine.weight.shape == (6, 6)
    assert layer.affine.bias.eq(0).all()
    x, w = torch.randn([2, 3, 4, 4]), torch.randn([2, 6])
    styles = layer.affine(w)
    torch.testing.assert_close(layer(x, w), adain(x, styles[:, :3] + 1, styles[:, 3:]))
    torch.testing.assert_close(layer(x, torch.zeros([2, 6])), adain(x))
    assert "eps=1e-08" in repr(layer)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": None}, TypeError, "x must be a torch.Tensor, got NoneType"),
        ({"x": torch.zeros([2, 3])}, ValueError, r"x must have 4 dimensions \[N, C, H, W\], got \[2, 3\]"),
        ({"scale": torch.zeros([3])}, ValueError, r"scale must have shape \[N, C\] = \[2, 3\], got \[3\]"),
        ({"shift": torch.zeros([2, 4])}, ValueError, r"shift must have shape \[N, C\] = \[2, 3\], got \[2, 4\]"),
        ({"shift": 1.0}, TypeError, "shift must be a torch.Tensor, got float"),
        ({"scale": torch.zeros([2, 3]).double()}, TypeError, "scale must be of the dtype of x, torch.float32, or"),
        ({"scale": torch.zeros([2, 3], device="meta")}, ValueError, "scale must be on the device of x, cpu, got meta"),
        ({"eps": -1}, ValueError, "eps must be at least 0, got -1"),
    ],
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.adain: {message}"):
        adain(**{"x": X, **arguments})
