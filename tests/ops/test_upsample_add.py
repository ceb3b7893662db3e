"""upsample_add: what is particular about it."""

from __future__ import annotations

import pytest
import torch

import gankern
from gankern import upsample_add

BINOMIAL = [1, 3, 3, 1]


@pytest.mark.parametrize("of_y", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("of_x", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_adds_a_result_of_any_dtype_and_format_to_an_image_that_keeps_its_own(dtype, of_x, of_y, backend, device):
    x = torch.randn([2, 3, 5, 7], device=device).contiguous(memory_format=getattr(torch, of_x))
    y = torch.randn([2, 3, 10, 14], device=device).to(dtype).contiguous(memory_format=getattr(torch, of_y))
    f = gankern.setup_filter(BINOMIAL, device=device)
    image = upsample_add(x, y, f, backend=backend)
    assert image.dtype == torch.float32
    assert image.is_contiguous(memory_format=getattr(torch, of_x))
    torch.testing.assert_close(image, gankern.upsample2d(x, f, backend="eager") + y.float())


def test_the_first_image_is_the_summand_itself_in_float32():
    y = torch.randn([2, 3, 4, 4]).bfloat16().contiguous(memory_format=torch.channels_last)
    image = upsample_add(None, y, None)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    torch.testing.assert_close(image, y.float(), rtol=0, atol=0)
    assert upsample_add(None, y.double(), None).dtype == torch.float64


def test_the_gradient_of_the_summand_has_its_dtype(backend, device):
    x = torch.randn([1, 2, 3, 3], device=device, requires_grad=True)
    y = torch.randn([1, 2, 6, 6], device=device).bfloat16().requires_grad_()
    upsample_add(x, y, gankern.setup_filter(BINOMIAL, device=device), backend=backend).square().sum().backward()
    assert y.grad.dtype == torch.bfloat16
    assert x.grad.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": torch.zeros([1, 2, 6, 5])}, ValueError, r"y must have the shape of the enlarged images, \[1, 2, 6, 6\]"),
        ({"y": torch.zeros([1, 2, 6, 6], dtype=torch.int32)}, TypeError, "y must be float64"),
        ({"x": torch.zeros([2, 3, 3])}, ValueError, "x must have 4 dimensions"),
        ({"up": 0}, ValueError, r"up must be in \[1, 128\]"),
        ({"f": torch.zeros([4, 4], dtype=torch.float64)}, TypeError, "f must be float32"),
        ({"gain": "2"}, TypeError, "gain must be a number"),
    ],
    ids=str,
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"x": torch.zeros([1, 2, 3, 3]), "y": torch.zeros([1, 2, 6, 6]), "f": gankern.setup_filter(BINOMIAL)}
    with pytest.raises(error, match=f"gankern.upsample_add: {message}"):
        upsample_add(**{**arguments, **change})
