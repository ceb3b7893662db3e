"""Winograd at stride 2 against float64: both directions, every layout, padding and odd size, and the gradients."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch
from case import LAYOUTS, WEIGHTS, like_random

import gankern
from gankern import convolution, dispatch, library
from gankern.reference import winograd_strided as reference

pytestmark = pytest.mark.skipif(
    dispatch.why_not("winograd_strided", "native", "cpu") is not None, reason="the native library is not built"
)
kernels = library.ops("native")

# Of the largest output. That of the largest product for 16 bits: their results are rounded once, to 8 or 11 bits.
PROMISE = {torch.float32: 2e-5, torch.bfloat16: 2**-8, torch.float16: 2**-10}
# [N, channels of the small image, of the large one, height and width of the small one]. Few tiles of 4x4 small pixels,
# at most a quarter of the input channels or 16, and many go separate ways.
SHAPES = [
    (2, 5, 7, 9, 6),
    (1, 16, 32, 8, 8),
    (3, 33, 70, 5, 41),
    (1, 64, 48, 21, 70),
    (5, 130, 9, 12, 4),
    (3, 9, 130, 4, 4),
    (1, 1, 1, 1, 1),
    (1, 3, 2, 2, 19),
    (2, 165, 130, 6, 5),
    (1, 261, 33, 5, 9),
]
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
each_padding = pytest.mark.parametrize("padding", [(0, 0), (1, 1), (0, 2), (2, 1)], ids=str)
each_extra = pytest.mark.parametrize("extra", [(0, 0), (1, 1), (0, 1)], ids=lambda e: f"extra_{e[0]}_{e[1]}")
each_format = pytest.mark.parametrize("memory_format", FORMATS.values(), ids=FORMATS)
directions = pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])


class Layer:
    """Random tensors of one convolution; its results are of the size of 1."""

    def __init__(self, shape, padding=(0, 0), extra=(0, 0), memory_format=torch.contiguous_format, dtype=torch.float32):
        n, i, o, h, w = shape
        self.padding, self.extra = padding, extra
        size = [2 * s + 1 - 2 * p + e for s, p, e in zip((h, w), padding, extra, strict=True)]
        if min(size) < 1 or any(s + 2 * p < 3 for s, p in zip(size, padding, strict=True)):
            pytest.skip("there is no image")
        self.small = torch.randn([n, i, h, w]).to(dtype).contiguous(memory_format=memory_format)
        self.large = torch.randn([n, o, *size]).to(dtype).contiguous(memory_format=memory_format)
        self.w = torch.randn([i, o, 3, 3]) / (3 * i**0.5)

    def x(self, transposed):
        return self.small if transposed else self.large

    def forward(self, transposed, scale=None, out_scale=None):
        extra = self.extra if transposed else (0, 0)
        x = self.x(transposed)
        return kernels.winograd_strided_conv2d(x, self.w, *self.padding, transposed, *extra, scale, out_scale)

    def exactly(self, transposed, *scales):
        scales = [s.double() for s in scales]
        x = self.x(transposed).double()
        return reference.winograd_strided(x, self.w.double(), self.padding, transposed, self.extra, *scales)

    def weight_gradient(self, *scales):
        scales = scales or (None, None)
        return kernels.winograd_strided_weight_gradient(self.large, self.small, *self.padding, *scales)

    def exact_weight_gradient(self, *scales):
        images = self.large.double(), self.small.double()
        return reference.winograd_strided_weight_gradient(*images, self.padding, *(s.double() for s in scales))


def error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    assert actual.shape == exact.shape
    return ((actual.double() - exact).abs().max() / exact.abs().max()).item()


@each_format
@each_extra
@each_padding
@each_shape
def test_all_three_are_within_the_promise(shape, padding, extra, memory_format):
    layer = Layer(shape, padding, extra, memory_format)
    for transposed in (False, True):
        y = layer.forward(transposed)
        assert y.isfinite().all()
        exact = layer.exactly(transposed)
        if not exact.any():  # a tiny image, of which the padding leaves nothing but zeros
            assert not y.any()
            continue
        assert error(y, exact) < PROMISE[torch.float32]
        assert y.is_contiguous(memory_format=memory_format)
    assert error(layer.weight_gradient(), layer.exact_weight_gradient()) < PROMISE[torch.float32]


@directions
@pytest.mark.parametrize("shape", [(1, 150, 140, 8, 9), (1, 140, 70, 25, 23)], ids=["few_tiles", "many_tiles"])
@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_of_any_form_are_within_the_promise(form, shape, transposed):
    layer = Layer(shape)
    layer.w = WEIGHTS[form](layer.w)
    assert error(layer.forward(transposed), layer.exactly(transposed)) < PROMISE[torch.float32]


@each_format
def test_the_weight_gradient_of_several_blocks_of_many_channels_is_within_the_promise(memory_format):
    layer = Layer((1, 8, 520, 61, 49), memory_format=memory_format)
    assert error(layer.weight_gradient(), layer.exact_weight_gradient()) < PROMISE[torch.float32]


@pytest.mark.parametrize("shape", [(1, 512, 512, 8, 8), (1, 512, 64, 32, 32), (1, 64, 512, 32, 32)], ids=str)
def test_512_channels_keep_the_promise_with_room_to_spare(shape):
    layer = Layer(shape)
    for transposed in (False, True):
        assert error(layer.forward(transposed), layer.exactly(transposed)) < PROMISE[torch.float32] / 2
    assert error(layer.weight_gradient(), layer.exact_weight_gradient()) < PROMISE[torch.float32] / 2


@directions
def test_images_of_large_mean_keep_the_promise(transposed):
    layer = Layer((1, 64, 256, 8, 8)) if not transposed else Layer((1, 256, 64, 8, 8))
    layer.x(transposed).add_(100)
    assert error(layer.forward(transposed), layer.exactly(transposed)) < PROMISE[torch.float32]


@each_format
def test_random_calls_are_within_the_promise(memory_format):
    rng = random.Random(0)
    for _ in range(60):
        padding, extra = ((rng.randint(0, 2), rng.randint(0, 2)), (rng.randint(0, 1), rng.randint(0, 1)))
        shape = (rng.randint(1, 5), rng.randint(1, 50), rng.randint(1, 50), rng.randint(3, 40), rng.randint(3, 40))
        layer = Layer(shape, padding, extra, memory_format)
        for transposed in (False, True):
            assert error(layer.forward(transposed), layer.exactly(transposed)) < PROMISE[torch.float32], shape
        assert error(layer.weight_gradient(), layer.exact_weight_gradient()) < PROMISE[torch.float32], shape


@each_format
@each_shape
def test_scales_are_those_of_the_reference(shape, memory_format):
    layer = Layer(shape, (0, 0), (0, 0), memory_format)
    n, i, o = shape[:3]
    of_small, of_large = torch.randn([n, i]), torch.randn([n, o])
    for transposed in (False, True):
        scales = (of_small, of_large) if transposed else (of_large, of_small)
        assert error(layer.forward(transposed, *scales), layer.exactly(transposed, *scales)) < PROMISE[torch.float32]
    scales = of_large, of_small
    assert error(layer.weight_gradient(*scales), layer.exact_weight_gradient(*scales)) < PROMISE[torch.float32]


@each_format
@directions
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_16_bit_images_are_rounded_once(dtype, transposed, memory_format):
    layer = Layer((2, 33, 40, 9, 14), (1, 0), (0, 1), memory_format, dtype)
    y = layer.forward(transposed)
    assert y.dtype == dtype
    assert error(y, layer.exactly(transposed)) < PROMISE[dtype]
    assert error(layer.weight_gradient(), layer.exact_weight_gradient()) < PROMISE[torch.float32]


@pytest.mark.parametrize(
    "shape",
    [(2, 40, 70, 19, 23), (1, 128, 96, 4, 4), (1, 8, 8, 70, 35), (5, 130, 9, 12, 4), (3, 9, 130, 4, 4)],
    ids=str,
)
def test_the_number_of_threads_changes_no_bit(shape):
    layer = Layer(shape)
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2, 4, 5):
        torch.set_num_threads(number)
        results.append((layer.forward(False), layer.forward(True), layer.weight_gradient()))
    torch.set_num_threads(threads)
    for others in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], others, strict=True))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_change_nothing(layout):
    layer, strided = Layer((2, 6, 8, 7, 9)), Layer((2, 6, 8, 7, 9))
    strided.small, strided.large = LAYOUTS[layout](layer.small), LAYOUTS[layout](layer.large)
    strided.w = LAYOUTS[layout](layer.w)
    for transposed in (False, True):
        assert torch.equal(strided.forward(transposed), layer.forward(transposed))
    assert torch.equal(strided.weight_gradient(), layer.weight_gradient())


def test_an_empty_batch_has_an_empty_result_and_no_gradient():
    small, large, w = torch.empty([0, 4, 5, 5]), torch.empty([0, 3, 11, 11]), torch.randn([4, 3, 3, 3])
    assert kernels.winograd_strided(small, w, 0, 0, True, 0, 0).shape == (0, 3, 11, 11)
    assert kernels.winograd_strided(large, w, 0, 0, False, 0, 0).shape == (0, 4, 5, 5)
    dw = kernels.winograd_strided_weight_gradient(large, small, 0, 0, None, None)
    assert torch.equal(dw, torch.zeros([4, 3, 3, 3]))


@directions
def test_nan_spreads_within_the_tiles_that_read_it_and_no_further(transposed):
    layer = Layer((1, 4, 4, 24, 24))
    expected = layer.forward(transposed)
    layer.small[0, 1, 9, 9] = layer.large[0, 1, 18, 18] = float("nan")
    y = layer.forward(transposed)
    step = 8 if transposed else 4
    assert y[:, :, 2 * step : 3 * step, 2 * step : 3 * step].isnan().any()
    for near in (slice(0, 2 * step), slice(3 * step + 1, None)):
        assert torch.equal(y[:, :, near], expected[:, :, near])
        assert torch.equal(y[:, :, :, near], expected[:, :, :, near])


def first_and_second_order(function, x, w):
    x, w = x.requires_grad_(), w.requires_grad_()
    y = function(x, w)
    dx, dw = torch.autograd.grad(y, (x, w), like_random(y), create_graph=True)
    return y, dx, dw, *torch.autograd.grad(dx.square().sum() + dw.square().sum(), (x, w))


@directions
@each_padding
@pytest.mark.parametrize("size", [(6, 5), (7, 8)], ids=str)
def test_it_has_derivatives_of_every_order(size, padding, transposed):
    """Of an even size the convolution leaves a row over, which its transpose must give back as output padding."""
    x, w = torch.randn([2, 3, *size]), torch.randn([3, 3, 3, 3])

    def run(backend):
        return lambda x, w: gankern.winograd_strided(x, w, padding, transposed, backend=backend)

    actual = first_and_second_order(run("native"), x, w)
    exact = first_and_second_order(run("eager"), x.detach().double(), w.detach().double())
    for value, true in zip(actual, exact, strict=True):
        assert error(value, true) < PROMISE[torch.float32]


def test_it_skips_the_weight_gradient_where_inputs_only_are_wanted():
    x, w = torch.randn([1, 3, 6, 6], requires_grad=True), torch.randn([4, 3, 3, 3], requires_grad=True)
    y = gankern.winograd_strided(x, w, backend="native")
    with gankern.inputs_only():
        assert torch.autograd.grad(y.sum(), (x, w), allow_unused=True)[1] is None


@each_format
@directions
def test_the_kernels_pass_torchs_own_opcheck(transposed, memory_format):
    layer = Layer((2, 3, 5, 6, 7), (1, 0), (1, 0), memory_format)
    tests = ("test_schema", "test_faketensor")
    x = layer.x(transposed)
    geometry = (1, 0, transposed, 1 if transposed else 0, 0)
    torch.library.opcheck(kernels.winograd_strided, (x.clone().requires_grad_(), layer.w, *geometry))
    torch.library.opcheck(kernels.winograd_strided_conv2d, (x, layer.w, *geometry, None, None), test_utils=tests)
    images = (layer.large.requires_grad_(), layer.small)
    torch.library.opcheck(kernels.winograd_strided_weight_gradient, (*images, 1, 0, None, None))


def test_convolutions_of_stride_2_use_it_with_every_derivative(monkeypatch):
    used = set()
    run, gradient = convolution.winograd_strided, torch.ops.gankern.winograd_strided_weight_gradient

    def winograd_strided(x, w, padding, transposed, output_padding):
        used.add("up" if transposed else "down")
        return run(x, w, padding, transposed, output_padding)

    def weight_gradient(*inputs):
        used.add("weight_gradient")
        return gradient(*inputs)

    monkeypatch.setattr(convolution, "winograd_strided", winograd_strided)
    monkeypatch.setattr(torch.ops.gankern, "winograd_strided_weight_gradient", weight_gradient)
    x, w = torch.randn([4, 32, 17, 17]), torch.randn([40, 32, 3, 3]) / 17
    for conv, image, weight in (
        (gankern.conv2d, x, w),
        (gankern.conv_transpose2d, x[:, :, :8, :8], w.transpose(0, 1)),
    ):
        used.clear()
        actual = first_and_second_order(lambda x, w, conv=conv: conv(x, w, stride=2), image, weight)
        assert used == {"down", "up", "weight_gradient"}
        doubles = image.detach().double(), weight.detach().double()
        exact = first_and_second_order(lambda x, w, conv=conv: conv(x, w, stride=2), *doubles)
        for value, true in zip(actual, exact, strict=True):
            assert error(value, true) < PROMISE[torch.float32]


@pytest.mark.parametrize(
    "options", [{"stride": [2, 1]}, {"stride": 2, "dilation": 2}, {"stride": 2, "padding": 3}], ids=str
)
def test_other_convolutions_do_not_use_it(options, monkeypatch):
    monkeypatch.setattr(convolution, "winograd_strided", lambda *inputs: pytest.fail("it was used"))
    gankern.conv2d(torch.randn([4, 32, 17, 17]), torch.randn([40, 32, 3, 3]), **options)


X, W = torch.zeros([1, 3, 5, 5]), torch.zeros([4, 3, 3, 3])


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((X, W[:, :2]), ValueError, r"w must have shape \[O, I, 3, 3\] with I = 3, got \[4, 2, 3, 3\]"),
        ((X, W, 0, True), ValueError, r"w must have shape \[I, O, 3, 3\] with I = 3, got \[4, 3, 3, 3\]"),
        ((X, W, 3), ValueError, r"padding must be in \[0, 2\], or two such numbers, got 3"),
        ((X, W, 0, False, 1), ValueError, r"output_padding must be in \[0, 0\], or two such numbers, got 1"),
        ((X[:, :, :2], W, 0), ValueError, r"x must be at least 3x3 with its padding, got \[1, 3, 2, 5\]"),
        ((X[:, :, :1], W[:3], 2, True), ValueError, r"padding must leave a pixel of the result, got \[2, 2\]"),
        ((X.double(), W), TypeError, r"x must be float32, bfloat16 or float16 unless backend='eager', got torch.fl"),
    ],
)
def test_errors_say_what_was_expected_and_what_came(arguments, kind, text):
    with pytest.raises(kind, match=text):
        gankern.winograd_strided(*arguments)


def test_the_kernels_refuse_what_they_would_read_out_of_bounds():
    for w, transposed in ((W, True), (W.transpose(0, 1), False), (W[..., :2], False), (W[0], False)):
        with pytest.raises(RuntimeError, match=r"w must have shape \[O, I, 3, 3\], or .* if transposed, for I = 3"):
            kernels.winograd_strided_conv2d(X, w, 0, 0, transposed, 0, 0, None, None)
    with pytest.raises(RuntimeError, match="scale must have 3 elements, got 5"):
        kernels.winograd_strided_conv2d(X, W, 0, 0, False, 0, 0, torch.zeros([5]), None)
    with pytest.raises(RuntimeError, match="extra must be 0, or at most 1 if transposed"):
        kernels.winograd_strided_conv2d(X, W, 0, 0, False, 1, 0, None, None)
    with pytest.raises(RuntimeError, match="small must have the dtype of large and the shape of its convolution"):
        kernels.winograd_strided_weight_gradient(X, torch.zeros([1, 4, 2, 3]), 0, 0, None, None)


def test_a_layer_has_no_derivative_and_says_so():
    y = kernels.winograd_strided_conv2d(X, W.clone().requires_grad_(), 0, 0, False, 0, 0, None, None)
    with pytest.raises(RuntimeError, match="winograd_strided_conv2d has no derivative: its caller owns it"):
        y.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_every_instruction_set_keeps_the_promise(level):
    chosen = "(within_the_promise or scales or rounded_once or threads) and not 512"
    command = [sys.executable, "-m", "pytest", "-x", "-q", __file__, "-k", chosen]
    ran = subprocess.run(command, env={**os.environ, "GANKERN_SIMD": level}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:]
