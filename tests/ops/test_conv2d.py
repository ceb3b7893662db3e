"""conv2d and conv_transpose2d: torch's results, with gradients that cost an ordinary convolution each."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F
from case import Kernels

import gankern
from gankern import conv2d, conv_transpose2d, no_weight_gradients


def tensors(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, dtype=torch.float64, generator=generator).to(dtype).requires_grad_() for s in shapes]


def test_positional_arguments_are_those_of_torch():
    x, w, b = tensors([2, 4, 7, 6], [6, 2, 3, 2], [6])
    arguments = (x, w, b, (2, 1), (1, 0), (1, 2), 2)
    torch.testing.assert_close(conv2d(*arguments), F.conv2d(*arguments))
    x, w, b = tensors([2, 4, 5, 6], [4, 3, 3, 2], [6])
    arguments = (x, w, b, (2, 3), (1, 0), (1, 2), 2, (2, 1))
    torch.testing.assert_close(conv_transpose2d(*arguments), F.conv_transpose2d(*arguments))


def test_the_tail_is_that_of_bias_act():
    x, w, b = tensors([2, 3, 5, 4], [4, 3, 3, 3], [4])
    options = {"act": "lrelu", "alpha": 0.3, "gain": 1.5, "clamp": 0.9}
    expected = gankern.bias_act(F.conv2d(x, w), b, **options)
    torch.testing.assert_close(conv2d(x, w, b, **options), expected)
    torch.testing.assert_close(conv2d(x, w, b, **options, backend="eager"), expected)


def penalty_and_gradients(conv, inner=contextlib.nullcontext):
    """A gradient penalty through two layers, and its gradients."""
    x, w0, w1 = tensors([2, 3, 8, 8], [5, 3, 3, 3], [2, 5, 3, 3])
    with inner():
        y = conv(torch.tanh(conv(x, w0, None, 2, 1)), w1, None, 1, 1)
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    penalty = gradient.square().sum()
    return penalty, *torch.autograd.grad(penalty, [x, w0, w1])


def test_a_gradient_penalty_equals_that_of_torchs_convolution():
    torch.testing.assert_close(penalty_and_gradients(conv2d), penalty_and_gradients(F.conv2d))


def test_the_second_order_runs_nothing_but_the_family():
    """torch's own would run a convolution whose kernel is as large as the image."""
    with Kernels() as kernels:
        penalty_and_gradients(conv2d)
    assert set(kernels.names) == {
        "gankern.conv2d",
        "gankern.conv_transpose2d",
        "gankern.conv2d_weight_gradient",
    }
    assert max(args[1].shape[-1] for func, args in kernels.calls if func._opname != "conv2d_weight_gradient") == 3


def weight_gradients(inner) -> int:
    x, w = tensors([1, 2, 5, 5], [3, 2, 3, 3])
    with inner(), Kernels() as kernels:
        torch.autograd.grad(conv2d(x, w).sum(), x)
    return kernels.names.count("gankern.conv2d_weight_gradient")


def test_no_weight_gradients_leaves_them_out_and_changes_no_result():
    assert weight_gradients(contextlib.nullcontext) == 1
    assert weight_gradients(no_weight_gradients) == 0
    assert weight_gradients(lambda: no_weight_gradients(disable=False)) == 1
    torch.testing.assert_close(
        penalty_and_gradients(conv2d, no_weight_gradients), penalty_and_gradients(conv2d), rtol=0, atol=0
    )


def test_no_weight_gradients_ends_when_an_error_does():
    with pytest.raises(ZeroDivisionError), no_weight_gradients():
        1 / 0  # noqa: B018
    assert weight_gradients(contextlib.nullcontext) == 1


def test_a_weight_that_depends_on_the_styles_keeps_its_gradient():
    """With per-sample weights the styles are reached through the weight alone."""
    x, w, styles = tensors([1, 2, 5, 5], [3, 2, 3, 3], [2])
    expected = torch.autograd.grad(conv2d(x, w * styles[:, None, None]).sum(), styles)
    with no_weight_gradients():
        actual = torch.autograd.grad(conv2d(x, w * styles[:, None, None]).sum(), styles)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("op", [conv2d, conv_transpose2d])
def test_autocast_computes_in_its_dtype_and_gradients_stay_in_float32(op):
    x, w = tensors([2, 4, 5, 5], [4, 4, 3, 3], dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = op(x, w)
    assert y.dtype == torch.bfloat16
    dx, dw = torch.autograd.grad(y.float().sum(), [x, w])
    assert dx.dtype == dw.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_float32_weight_serves_16_bit_images(dtype):
    x, w = tensors([2, 4, 5, 5], [4, 4, 3, 3], dtype=torch.float32)
    x = x.detach().to(dtype).requires_grad_()
    y = conv2d(x, w)
    assert y.dtype == dtype
    dx, dw = torch.autograd.grad(y.sum(), [x, w])
    assert (dx.dtype, dw.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "channels_last"])
def test_the_weight_gradient_has_the_format_of_the_weight(channels_last):
    x, w = tensors([2, 4, 9, 9], [4, 4, 3, 3], dtype=torch.float32)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    w = w.detach().contiguous(memory_format=memory_format).requires_grad_()
    for image in (x, x.contiguous(memory_format=torch.channels_last)):
        (dw,) = torch.autograd.grad(conv2d(image, w).sum(), w)
        assert dw.is_contiguous(memory_format=memory_format)


X, W = torch.zeros([2, 4, 5, 5]), torch.zeros([6, 4, 3, 3])
MISTAKES = {
    "input must have 4 dimensions": (ValueError, lambda: conv2d(X[0], W)),
    "input must be float64": (TypeError, lambda: conv2d(X.int(), W)),
    r"weight must have shape \[O, I / groups": (ValueError, lambda: conv2d(X, W[:, :3])),
    r"weight must have shape \[I, O / groups": (ValueError, lambda: conv_transpose2d(X, W)),
    "weight must be of the dtype of input": (TypeError, lambda: conv2d(X, W.double())),
    "weight must fit into the padded image": (ValueError, lambda: conv2d(X[:, :, :2], W)),
    "groups must be an integer of at least 1": (ValueError, lambda: conv2d(X, W, groups=3)),
    "stride must be an integer of at least 1": (ValueError, lambda: conv2d(X, W, stride=0)),
    "padding must be an integer of at least 0": (ValueError, lambda: conv2d(X, W, padding=(1, -1))),
    "dilation must be an integer": (ValueError, lambda: conv2d(X, W, dilation=(1, 1, 1))),
    "output_padding must be smaller than": (ValueError, lambda: conv_transpose2d(X, W[:4], output_padding=1)),
    r"bias must have shape \[O\] = \[6\]": (ValueError, lambda: conv2d(X, W, torch.zeros([5]))),
    "act must be one of": (ValueError, lambda: conv2d(X, W, act="gelu")),
    "cannot run on cpu: conv2d has no triton kernels": (RuntimeError, lambda: conv2d(X, W, backend="triton")),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text):
    error, call = MISTAKES[text]
    with pytest.raises(error, match=text):
        call()
