"""conv2d_resample: the cheap orders of computation give what the plain one gives."""

from __future__ import annotations

import pytest
import torch

from gankern import conv2d_resample, setup_filter
from gankern import convolution as routines
from gankern.ops.upfirdn2d import parse_padding
from gankern.reference import conv2d_resample as reference

FILTERS = {
    "none": None,
    "binomial": [1, 3, 3, 1],
    "asymmetric": [[1.0, 2.0, 4.0], [3.0, -1.0, 5.0]],
    "separable": [1, 2, 3, 5, 7, 4, 3, 2],
}
RESAMPLINGS = {"same": (1, 1), "up2": (2, 1), "up3": (3, 1), "down2": (1, 2), "down3": (1, 3), "up3_down2": (3, 2)}


def inputs(kernel=(3, 3), groups=1, dtype=torch.float64, size=(2, 4, 7, 6)):
    torch.manual_seed(0)
    x = torch.randn(size, dtype=dtype, requires_grad=True)
    w = torch.randn([6, size[1] // groups, *kernel], dtype=dtype, requires_grad=True)
    return x, w


def expected(x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False):
    padding = parse_padding("conv2d_resample", padding)
    return reference.conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5)], ids=["1x1", "3x3", "2x5"])
@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize("name", FILTERS)
def test_equals_the_reference_in_value_and_gradient(name, resampling, kernel):
    x, w = inputs(kernel)
    f = FILTERS[name] if FILTERS[name] is None else setup_filter(FILTERS[name])
    up, down = RESAMPLINGS[resampling]
    options = {"up": up, "down": down, "padding": [3, 2, 4, 3]}
    y = conv2d_resample(x, w, f, **options)
    truth = expected(x, w, f, **options)
    torch.testing.assert_close(y, truth, rtol=1e-10, atol=1e-10)
    dy = torch.randn_like(y)
    gradients, true_gradients = (torch.autograd.grad(out, [x, w], dy) for out in (y, truth))
    torch.testing.assert_close(gradients, true_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("resampling", ["same", "up2", "down2"])
@pytest.mark.parametrize("flip_weight", [True, False])
@pytest.mark.parametrize("flip_filter", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_flips_and_groups_equal_the_reference(groups, flip_filter, flip_weight, resampling):
    x, w = inputs(groups=groups)
    up, down = RESAMPLINGS[resampling]
    options = {"groups": groups, "flip_weight": flip_weight, "flip_filter": flip_filter, "up": up, "down": down}
    f = setup_filter(FILTERS["asymmetric"])
    y = conv2d_resample(x, w, f, padding=1, **options)
    torch.testing.assert_close(y, expected(x, w, f, padding=1, **options), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", [0, 2, -1, [1, -2], [1, 0, -1, 2], [0, 3, 0, 3]], ids=str)
@pytest.mark.parametrize("resampling", ["same", "up2", "down2"])
def test_any_padding_equals_the_reference(resampling, padding):
    x, w = inputs(size=(2, 4, 9, 9))
    up, down = RESAMPLINGS[resampling]
    f = setup_filter([1, 3, 3, 1])
    y = conv2d_resample(x, w, f, up, down, padding)
    torch.testing.assert_close(y, expected(x, w, f, up, down, padding), rtol=1e-10, atol=1e-10)


@pytest.fixture
def folding(monkeypatch):
    """Makes every filter a part of the kernel, as some are on a GPU."""
    calls = []
    monkeypatch.setattr(routines, "folds_filter", lambda x, w, taps: calls.append(taps) or True)
    return calls


@pytest.mark.parametrize("padding", [1, 0, 2, [1, -2, 0, 3]], ids=str)
@pytest.mark.parametrize("flips", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("resampling", ["up2", "up3", "down2", "down3", "up3_down2"])
@pytest.mark.parametrize("taps", [[1, 1], FILTERS["asymmetric"], FILTERS["separable"]], ids=["box", "3x2", "separable"])
def test_a_filter_inside_the_kernel_changes_no_value_and_no_gradient(taps, resampling, flips, padding, folding):
    x, w = inputs(groups=2, size=(2, 4, 9, 8))
    up, down = RESAMPLINGS[resampling]
    options = {"up": up, "down": down, "groups": 2, "flip_weight": flips[0], "flip_filter": flips[1]}
    f = setup_filter(taps)
    padding = 8 if len(f) == 8 else padding
    y, truth = conv2d_resample(x, w, f, padding=padding, **options), expected(x, w, f, padding=padding, **options)
    assert bool(folding) == (resampling != "up3_down2")
    torch.testing.assert_close(y, truth, rtol=1e-10, atol=1e-10)
    dy = torch.randn_like(y)
    gradients, true_gradients = (torch.autograd.grad(out, [x, w], dy) for out in (y, truth))
    torch.testing.assert_close(gradients, true_gradients, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("resampling", ["up2", "down2"])
def test_a_filter_inside_the_kernel_costs_no_precision(resampling, dtype, folding):
    x, w = inputs(dtype=dtype, size=(2, 16, 8, 8))
    up, down = RESAMPLINGS[resampling]
    f = setup_filter([1, 1])
    truth = expected(x.double(), w.double(), f, up, down, 1)
    y = conv2d_resample(x, w, f, up, down, 1)
    error, own_error = ((result - truth).abs().max() for result in (y, expected(x, w, f, up, down, 1)))
    assert folding == [2]
    assert error <= 2 * own_error + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("resampling", ["same", "up2", "down2"])
def test_is_as_precise_as_the_reference_in_its_dtype(resampling, dtype):
    x, w = inputs(dtype=dtype, size=(2, 16, 8, 8))
    up, down = RESAMPLINGS[resampling]
    f = setup_filter([1, 3, 3, 1])
    truth = expected(x.double(), w.double(), f, up, down, 1)
    y = conv2d_resample(x, w, f, up, down, 1)
    error = (y - truth).abs().max()
    own_error = (expected(x, w, f, up, down, 1) - truth).abs().max()
    assert y.dtype == dtype
    assert error <= 2 * own_error + 1e-6


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)], ids=["1x1", "3x3"])
@pytest.mark.parametrize(("resampling", "size"), [("same", 8), ("up2", 16), ("down2", 4)])
def test_keeps_the_image_centred_and_channels_last(resampling, size, kernel):
    x, w = inputs(kernel, size=(2, 4, 8, 8))
    up, down = RESAMPLINGS[resampling]
    f = setup_filter([1, 3, 3, 1])
    x = x.detach().contiguous(memory_format=torch.channels_last)
    y = conv2d_resample(x, w, f, up, down, kernel[0] // 2)
    assert y.shape == (2, 6, size, size)
    assert y.is_contiguous(memory_format=torch.channels_last)
    symmetric = conv2d_resample(x.flip(3), w.flip(3), f, up, down, kernel[0] // 2).flip(3)
    torch.testing.assert_close(y, symmetric, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)], ids=["1x1", "3x3"])
@pytest.mark.parametrize("resampling", ["same", "up2", "down2", "up3_down2"])
def test_gradients_of_both_orders_are_right(resampling, kernel):
    torch.manual_seed(0)
    x = torch.randn([1, 2, 4, 3], dtype=torch.float64, requires_grad=True)
    w = torch.randn([2, 2, *kernel], dtype=torch.float64, requires_grad=True)
    f = setup_filter([1, 3, 3, 1])
    up, down = RESAMPLINGS[resampling]

    def op(x, w):
        return conv2d_resample(x, w, f, up, down, kernel[0] // 2, flip_weight=False)

    assert torch.autograd.gradcheck(op, (x, w))
    assert torch.autograd.gradgradcheck(op, (x, w))


@pytest.mark.parametrize("resampling", ["same", "up2", "down2"])
def test_an_empty_batch_gives_an_empty_batch(resampling):
    x, w = inputs(size=(0, 4, 8, 8))
    up, down = RESAMPLINGS[resampling]
    y = conv2d_resample(x, w, setup_filter([1, 3, 3, 1]), up, down, 1)
    assert y.shape == (0, 6, 8 * up // down, 8 * up // down)


@pytest.mark.parametrize("resampling", ["same", "up2", "down2"])
def test_compiles_as_one_graph(resampling):
    x, w = inputs()
    up, down = RESAMPLINGS[resampling]
    f = setup_filter([1, 3, 3, 1])

    def op(x, w):
        return conv2d_resample(x, w, f, up, down, 1)

    torch._dynamo.reset()  # or it makes a variable of `up`, which it has seen with another value
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, w), op(x, w))


X, W = torch.zeros([2, 4, 8, 8]), torch.zeros([6, 4, 3, 3])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": [1.0]}, TypeError, "x must be a torch.Tensor, got list"),
        ({"x": X[0]}, ValueError, r"x must have 4 dimensions \[N, C, H, W\], got \[4, 8, 8\]"),
        ({"x": X.long()}, TypeError, "x must be float64, float32, bfloat16 or float16, got torch.int64"),
        ({"w": W.double()}, TypeError, "w must be of the dtype of x, torch.float32, got torch.float64"),
        (
            {"w": W[:, :3]},
            ValueError,
            r"w must have shape \[O, I / groups, kh, kw\] with I = 4, groups = 1, got \[6, 3",
        ),
        ({"w": W[0]}, ValueError, r"w must have shape .*, got \[4, 3, 3\] \(x is \[2, 4, 8, 8\]\)"),
        ({"groups": 4}, ValueError, "w must have shape .* groups = 4"),
        ({"groups": 0}, ValueError, "groups must be an integer of at least 1, got 0"),
        ({"up": 0}, ValueError, "up must be an integer of at least 1, got 0"),
        ({"down": 1.5}, ValueError, "down must be an integer of at least 1, got 1.5"),
        ({"padding": "same"}, TypeError, "padding must be an integer"),
        ({"padding": -3}, ValueError, "padding must leave an image of at least 1x1 .* got -3 which leaves 0x0"),
        ({"f": torch.ones([2, 2, 2])}, ValueError, r"f must be None or have shape .* got \[2, 2, 2\]"),
        ({"f": torch.ones([30]), "down": 2, "x": X[:, :, :1]}, ValueError, "padding must leave"),
        ({"w": W.to("meta")}, ValueError, "w must be on the device of x, cpu, got meta"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_says_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=f"gankern.conv2d_resample: {message}"):
        conv2d_resample(**{"x": X, "w": W, **arguments})
