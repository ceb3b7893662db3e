"""What no op takes, whatever it computes: each says so in the same words."""

from __future__ import annotations

import math

import pytest
import torch

import gankern

X = torch.zeros([2, 4, 6, 6])
VECTOR, TABLE = torch.zeros([4]), torch.zeros([2, 4])
WEIGHT = torch.zeros([6, 4, 3, 3])


@pytest.mark.parametrize("chosen", ["eager", None])
@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("alpha", lambda **kw: gankern.fade(X, X, math.nan, **kw)),
        ("gain", lambda **kw: gankern.upsample_add(X, X, None, up=1, gain=math.nan, **kw)),
        ("slope", lambda **kw: gankern.filtered_lrelu(X, slope=math.nan, **kw)),
        ("momentum", lambda **kw: gankern.conditional_batch_norm(X, VECTOR, VECTOR, momentum=math.nan, **kw)),
        ("eps", lambda **kw: gankern.adain(X, eps=math.nan, **kw)),
        ("gain", lambda **kw: gankern.style_epilogue(X, gain=math.nan, **kw)),
        ("alpha", lambda **kw: gankern.styled_bias_act(X, act="lrelu", alpha=math.nan, **kw)),
        ("strength", lambda **kw: gankern.noise_injection(X, X[0, 0], math.nan, **kw)),
        ("clamp", lambda **kw: gankern.conv2d(X, WEIGHT, clamp=math.nan, **kw)),
        ("eps", lambda **kw: gankern.spectral_norm_batched([TABLE], [TABLE[:, 0].clone()], eps=math.nan, **kw)),
    ],
)
def test_a_number_that_is_nan_is_refused(argument, call, chosen):
    with pytest.raises(ValueError, match=rf"gankern\.\w+: {argument} must not be NaN, got nan"):
        call(backend=chosen)


@pytest.mark.parametrize("chosen", ["eager", None])
@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("x", lambda **kw: gankern.squared_norms(X.to_sparse(), **kw)),
        ("old", lambda **kw: gankern.fade(X, X.to_sparse(), 0.5, **kw)),
        ("scale", lambda **kw: gankern.adain(X, TABLE.to_sparse(), **kw)),
        ("weight", lambda **kw: gankern.conv2d(X, WEIGHT.to_sparse(), **kw)),
    ],
)
def test_a_sparse_tensor_is_refused(argument, call, chosen):
    with pytest.raises(TypeError, match=rf"gankern\.\w+: {argument} must be a dense tensor, got torch.sparse_coo"):
        call(backend=chosen)


@pytest.mark.parametrize("chosen", ["eager", None])
@pytest.mark.parametrize("op", ["bias_act", "styled_bias_act", "style_epilogue"])
def test_an_activation_that_is_no_string_is_refused(op, chosen):
    with pytest.raises(ValueError, match=rf"gankern\.{op}: act must be one of .*, got \['relu'\]"):
        getattr(gankern, op)(X, act=["relu"], backend=chosen)


def scores(x: torch.Tensor) -> torch.Tensor:
    return x.square().sum([1, 2, 3])


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "D must be callable, got NoneType", lambda: gankern.r1_penalty(None, X)),
        (RuntimeError, "must be a differentiable function", lambda: gankern.r1_penalty(lambda x: X.sum(), X)),
        (ValueError, "x must have at least one dimension", lambda: gankern.r2_penalty(scores, X[0, 0, 0, 0])),
        (ValueError, "fake must be on the device of real", lambda: gankern.wgan_gp_penalty(scores, X, X.to("meta"))),
        (TypeError, "dst must be a list of tensors, got NoneType", lambda: gankern.ema_update(None, [X], 0.5)),
        (TypeError, r"src\[0\] must be a torch.Tensor, got NoneType", lambda: gankern.ema_update([X], [None], 0.5)),
        (TypeError, "gradients must be a module, a tensor or", lambda: gankern.sanitize_gradients(None)),
        (TypeError, "posinf must be a number, got str", lambda: gankern.sanitize_gradients([X], posinf="1")),
        (TypeError, "weights must be a list of tensors", lambda: gankern.spectral_norm_batched(TABLE, [VECTOR])),
        (
            ValueError,
            r"sigmas\[0\] must have one element, got \[4\]",
            lambda: gankern.spectral_norm_batched([TABLE], [VECTOR[:2]], sigmas=[VECTOR]),
        ),
        (ValueError, "num_channels must be an integer", lambda: gankern.minibatch_stddev(X[:, :0])),
        (ValueError, "momentum must be in", lambda: gankern.conditional_batch_norm(X, VECTOR, VECTOR, momentum=2)),
        (ValueError, "padding must be in", lambda: gankern.winograd(X, WEIGHT, None)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_it_is_used(error, message, call):
    with pytest.raises(error, match=message) as raised:
        call()
    assert str(raised.value).startswith("gankern.")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pl_mean": torch.zeros([1])}, r"pl_mean must have no dimension, got \[1\]"),
        ({"decay": -1}, r"decay must be in \[0, 1\], got -1"),
        ({"img": X}, "img must require a gradient"),
    ],
)
def test_path_length_penalty_says_what_is_wrong(changed, message):
    ws = torch.zeros([2, 3, 5], requires_grad=True)
    arguments = {"img": ws.sum() * X, "ws": ws, "pl_mean": torch.zeros([]), "decay": 0.01, **changed}
    with pytest.raises(ValueError, match=f"gankern.path_length_penalty: {message}"):
        gankern.path_length_penalty(**arguments)


@pytest.mark.parametrize("chosen", ["eager", "native"])
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"bias": torch.zeros([5])}, ValueError, r"bias must have shape \[O\] = \[6\], got \[5\]"),
        ({"bias": 1.5}, TypeError, "bias must be a torch.Tensor, got float"),
        ({"clamp": -1}, ValueError, "clamp must be None or at least 0, got -1"),
        ({"stride": None}, ValueError, "stride must be an integer of at least 1, or two"),
    ],
)
def test_conv2d_refuses_the_same_on_every_backend(changed, error, message, chosen):
    with pytest.raises(error, match=f"gankern.conv2d: {message}"):
        gankern.conv2d(X, WEIGHT, **changed, backend=chosen)


def test_meta_tensors_pass_through_a_convolution():
    assert gankern.conv2d(X.to("meta"), WEIGHT.to("meta"), padding=1, act="lrelu").shape == (2, 6, 6, 6)
