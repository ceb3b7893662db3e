"""upfirdn2d and the filters built on it: errors, meaning, random arguments."""

from __future__ import annotations

import math

import pytest
import torch
from case import DTYPES, LAYOUTS
from hypothesis import given, settings
from hypothesis import strategies as st

import gankern
from gankern import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

X = torch.zeros([2, 3, 8, 6])
F = torch.ones([4, 4]) / 16
SCALE = "must be an integer or two integers [x, y]"
PADDING = "padding must be an integer, [x, y] or [x_before, x_after, y_before, y_after]"

ERRORS = {
    "x_is_no_tensor": ({"x": 1}, TypeError, "x must be a torch.Tensor, got int"),
    "x_is_of_integers": (
        {"x": X.long()},
        TypeError,
        "x must be float64, float32, bfloat16 or float16, got torch.int64",
    ),
    "x_has_three_dimensions": ({"x": X[0]}, ValueError, "x must have 4 dimensions [N, C, H, W], got [3, 8, 6]"),
    "x_has_no_rows": ({"x": X[:, :, :0]}, ValueError, "x must have H >= 1 and W >= 1, got [2, 3, 0, 6]"),
    "f_is_no_tensor": ({"f": [1, 3, 3, 1]}, TypeError, "f must be a torch.Tensor, got list"),
    "f_is_float64": ({"f": F.double()}, TypeError, "f must be float32 (see setup_filter), got torch.float64"),
    "f_has_three_dimensions": (
        {"f": F[None]},
        ValueError,
        "f must have shape [taps] or [taps_y, taps_x] with 1 to 128 taps, got [1, 4, 4]",
    ),
    "f_is_empty": ({"f": F[:0]}, ValueError, "with 1 to 128 taps, got [0, 4]"),
    "f_has_too_many_taps": ({"f": torch.ones([129])}, ValueError, "with 1 to 128 taps, got [129]"),
    "f_requires_grad": ({"f": F.clone().requires_grad_()}, ValueError, "f must not require a gradient"),
    "f_is_on_another_device": ({"f": F.to("meta")}, ValueError, "f must be on the device of x, cpu, got meta"),
    "x_is_on_another_device": ({"x": X.to("meta")}, ValueError, "f must be on the device of x, meta, got cpu"),
    "f_is_larger_than_the_image": (
        {"padding": [0, -3, 0, 0]},
        ValueError,
        "f must be no larger than the upsampled and padded image [8, 3], got [4, 4] (x is [2, 3, 8, 6])",
    ),
    "up_is_0": ({"up": 0}, ValueError, "up must be in [1, 128], got 0"),
    "up_is_too_large": ({"up": [1, 129]}, ValueError, "up must be in [1, 128], got [1, 129]"),
    "up_is_a_float": ({"up": 2.0}, TypeError, f"up {SCALE}, got 2.0"),
    "up_has_three_numbers": ({"up": [1, 2, 1]}, TypeError, f"up {SCALE}, got [1, 2, 1]"),
    "down_is_negative": ({"down": -2}, ValueError, "down must be in [1, 128], got -2"),
    "down_is_a_tensor": ({"down": torch.tensor(2)}, TypeError, f"down {SCALE}, got tensor(2)"),
    "down_is_a_string": ({"down": "22"}, TypeError, f"down {SCALE}, got '22'"),
    "padding_has_three_numbers": ({"padding": [1, 2, 3]}, TypeError, f"{PADDING}, got [1, 2, 3]"),
    "padding_is_a_float": ({"padding": [1.5, 0]}, TypeError, f"{PADDING}, got [1.5, 0]"),
    "padding_is_none": ({"padding": None}, TypeError, f"{PADDING}, got None"),
    "gain_is_a_tensor": ({"gain": torch.tensor(2.0)}, TypeError, "gain must be a number, got Tensor"),
    "gain_is_none": ({"gain": None}, TypeError, "gain must be a number, got NoneType"),
    "backend_is_unknown": ({"backend": "ref"}, ValueError, "backend must be one of native, triton, eager, got 'ref'"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_argument_is_named_with_what_was_expected(name):
    wrong, error, text = ERRORS[name]
    with pytest.raises(error) as caught:
        upfirdn2d(**{"x": X, "f": F, "padding": 1, **wrong})
    assert str(caught.value).startswith("gankern")
    assert text in str(caught.value)


@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
def test_a_wrong_padding_names_the_function_that_was_called(function):
    with pytest.raises(TypeError, match=rf"gankern\.{function.__name__}: padding must be an integer"):
        function(X, F, padding=[1, 2, 3])


@pytest.mark.parametrize("function", [filter2d, upsample2d, downsample2d])
@pytest.mark.parametrize("f", [[1, 3, 3, 1], torch.tensor(1.0)], ids=["list", "scalar"])
def test_a_wrong_filter_is_a_clear_error_in_every_function(function, f):
    with pytest.raises((TypeError, ValueError), match=r"gankern\.\w+: f must"):
        function(X, f)


def test_the_raw_op_refuses_what_would_read_out_of_bounds():
    if gankern.dispatch.why_not("upfirdn2d", "native", "cpu"):
        pytest.skip("the native library is not built")

    def op(x=X, f=F, up=1, down=1, padding=0):
        return torch.ops.gankern.upfirdn2d(x, f, up, up, down, down, *[padding] * 4, False, 1.0)

    assert op().shape == (2, 3, 5, 3)
    for wrong, text in (
        ({"x": X[0]}, "x must have 4 dimensions"),
        ({"x": X.int()}, "float64, float32, bfloat16 or float16"),
        ({"f": F.double()}, "f must be float32"),
        ({"f": F[None]}, "f must be float32 with shape"),
        ({"f": F[:0]}, "1 to 128 taps"),
        ({"f": torch.ones([200])}, "1 to 128 taps"),
        ({"up": 0}, "must be in"),
        ({"down": 1000}, "must be in"),
        ({"padding": -4}, "no larger than"),
    ):
        with pytest.raises(RuntimeError, match=text):
            op(**wrong)


def by_the_definition(x, f, up, down, padding, flip, gain):
    """Zeros inserted, padded, cropped, filtered tap by tap, decimated: one output pixel's sum written as loops."""
    f = f.double()
    f = f.outer(f) if f.ndim == 1 else f
    f = f if flip else f.flip([0, 1])
    n, c, h, w = x.shape
    px0, px1, py0, py1 = padding
    canvas = x.new_zeros([n, c, h * up[1] + 2 * 40, w * up[0] + 2 * 40], dtype=torch.float64)
    canvas[:, :, 40 : 40 + h * up[1] : up[1], 40 : 40 + w * up[0] : up[0]] = x.double()
    canvas = canvas[:, :, 40 - py0 : 40 + h * up[1] + py1, 40 - px0 : 40 + w * up[0] + px1]
    out_h, out_w = canvas.shape[2] - f.shape[0] + 1, canvas.shape[3] - f.shape[1] + 1
    y = sum(f[i, j] * canvas[:, :, i : i + out_h, j : j + out_w] for i in range(f.shape[0]) for j in range(f.shape[1]))
    return y[:, :, :: down[1], :: down[0]] * gain


def random_image(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_one_sample_in_gives_the_filter_back(backend, device):
    """An impulse: a convolution shows the taps as they are, a correlation shows them flipped."""
    x = torch.zeros([1, 1, 5, 5], device=device)
    x[0, 0, 2, 2] = 1
    f = torch.arange(9.0, device=device).reshape(3, 3)
    y = upfirdn2d(x, f, padding=1, backend=backend)[0, 0, 1:4, 1:4]
    torch.testing.assert_close(y, f)
    y = upfirdn2d(x, f, padding=1, flip_filter=True, backend=backend)[0, 0, 1:4, 1:4]
    torch.testing.assert_close(y, f.flip([0, 1]))


@pytest.mark.parametrize("taps", [(4, 4), (3, 5), (9,), (1,)], ids=str)
@pytest.mark.parametrize("padding", [0, 2, [1, -1]], ids=str)
def test_filter2d_keeps_the_size_and_adds_the_padding(taps, padding, backend, device):
    x = random_image(2, 3, 9, 7)
    f = torch.randn(taps, generator=torch.Generator().manual_seed(1))
    (fw, fh), (px, py) = (taps[-1], taps[0]), (padding, padding) if isinstance(padding, int) else padding
    y = filter2d(x.to(device), f.to(device), padding, gain=3, backend=backend)
    assert y.shape == (2, 3, 9 + 2 * py, 7 + 2 * px)
    around = (px + fw // 2, px + (fw - 1) // 2, py + fh // 2, py + (fh - 1) // 2)
    torch.testing.assert_close(
        y.cpu(), by_the_definition(x, f, (1, 1), (1, 1), around, False, 3), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("up", [1, 2, 3, [3, 1], [2, 4]], ids=str)
@pytest.mark.parametrize("taps", [(4, 4), (5, 6), (8,)], ids=str)
def test_upsample2d_scales_size_and_keeps_magnitude(taps, up, backend, device):
    x = random_image(1, 2, 5, 6)
    f = setup_filter(torch.rand(taps, generator=torch.Generator().manual_seed(1)))
    ux, uy = (up, up) if isinstance(up, int) else up
    fw, fh = taps[-1], taps[0]
    y = upsample2d(x.to(device), f.to(device), up, flip_filter=True, backend=backend)
    assert y.shape == (1, 2, 5 * uy, 6 * ux)
    around = ((fw + ux - 1) // 2, (fw - ux) // 2, (fh + uy - 1) // 2, (fh - uy) // 2)
    torch.testing.assert_close(
        y.cpu(), by_the_definition(x, f, (ux, uy), (1, 1), around, True, ux * uy), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("down", [1, 2, 3, [3, 1], [2, 4]], ids=str)
@pytest.mark.parametrize("taps", [(4, 4), (5, 6), (8,)], ids=str)
def test_downsample2d_divides_the_size(taps, down, backend, device):
    x = random_image(1, 2, 12, 24)
    f = setup_filter(torch.rand(taps, generator=torch.Generator().manual_seed(1)))
    dx, dy = (down, down) if isinstance(down, int) else down
    fw, fh = taps[-1], taps[0]
    y = downsample2d(x.to(device), f.to(device), down, backend=backend)
    assert y.shape == (1, 2, 12 // dy, 24 // dx)
    around = ((fw - dx + 1) // 2, (fw - dx) // 2, (fh - dy + 1) // 2, (fh - dy) // 2)
    torch.testing.assert_close(
        y.cpu(), by_the_definition(x, f, (1, 1), (dx, dy), around, False, 1), rtol=1e-10, atol=1e-10
    )


def test_a_flat_image_keeps_its_value_under_every_filter(backend, device):
    x = torch.full([1, 1, 16, 16], 3.0, device=device)
    f = setup_filter([1, 3, 3, 1], device=device)
    for y in (filter2d(x, f, backend=backend), upsample2d(x, f, backend=backend), downsample2d(x, f, backend=backend)):
        torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.full_like(y[:, :, 2:-2, 2:-2], 3.0))


class TestSetupFilter:
    def test_a_short_filter_becomes_its_outer_product_with_sum_one(self):
        f = setup_filter([1, 3, 3, 1])
        expected = torch.tensor([1.0, 3, 3, 1]).outer(torch.tensor([1.0, 3, 3, 1])) / 64
        assert f.dtype == torch.float32
        torch.testing.assert_close(f, expected)

    def test_eight_taps_stay_one_dimensional(self):
        assert setup_filter([1] * 8).shape == (8,)
        assert setup_filter([1] * 7).shape == (7, 7)
        assert setup_filter([1] * 8, separable=False).shape == (8, 8)
        assert setup_filter([1, 2, 1], separable=True).shape == (3,)

    def test_nothing_and_a_number_are_one_tap(self):
        torch.testing.assert_close(setup_filter(None), torch.ones([1, 1]))
        torch.testing.assert_close(setup_filter(5), torch.ones([1, 1]))
        torch.testing.assert_close(setup_filter(5, normalize=False), torch.full([1, 1], 25.0))

    def test_gain_is_per_image_not_per_axis(self):
        torch.testing.assert_close(setup_filter([1, 1], gain=4).sum().item(), 4.0)
        torch.testing.assert_close(setup_filter([1] * 8, gain=4).sum().item(), 2.0)

    def test_flips_after_normalising(self):
        torch.testing.assert_close(
            setup_filter([[1.0, 2], [3, 4]], flip_filter=True) * 10, torch.tensor([[4.0, 3], [2, 1]])
        )

    @pytest.mark.parametrize(
        ("wrong", "text"),
        [
            ({"f": []}, "f must be a number or have shape [taps] or [h, w], got [0]"),
            ({"f": torch.zeros([2, 2, 2])}, "got [2, 2, 2]"),
            (
                {"f": torch.ones([2, 2]), "separable": True},
                "separable must be False or None for a 2-D filter, got True",
            ),
        ],
        ids=["empty", "three_dimensions", "separable_2d"],
    )
    def test_a_wrong_argument_is_named(self, wrong, text):
        with pytest.raises(ValueError) as caught:
            setup_filter(**wrong)
        assert text in str(caught.value)


@pytest.mark.kernels
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "inf"])
def test_nan_and_infinity_reach_exactly_the_pixels_the_filter_takes_them_to(value, layout, backend, device):
    x = random_image(1, 3, 9, 11).float()
    x[0, 1, 4, 5] = value
    x = LAYOUTS[layout](x.to(device))
    f = setup_filter([1, 3, 3, 1], device=device)
    for options in ({"padding": [2, 1, 2, 1]}, {"up": 2, "padding": [2, 1, 2, 1]}, {"down": 2, "padding": 1}):
        actual = upfirdn2d(x, f, **options, backend=backend)
        x_finite = torch.where(x.isfinite(), x, 0.0)
        finite = upfirdn2d(x_finite, f, **options, backend="eager")
        reached = upfirdn2d((~x.isfinite()).float(), f, **options, backend="eager") > 0
        assert not actual[reached].isfinite().any()
        torch.testing.assert_close(actual[~reached], finite[~reached], rtol=1e-5, atol=1e-6)


@pytest.mark.kernels
def test_an_infinite_gain_gives_no_number_and_one_that_is_no_number_is_refused(backend, device):
    x = torch.ones([1, 1, 4, 4], device=device)
    assert not upfirdn2d(x, None, gain=math.inf, backend=backend).isfinite().any()
    with pytest.raises(ValueError, match="gain must not be NaN"):
        upfirdn2d(x, None, gain=math.nan, backend=backend)


SCALES = st.one_of(
    st.integers(1, 4), st.lists(st.integers(1, 4), min_size=2, max_size=2), st.sampled_from([0, 129, 2.0])
)
PADDINGS = st.one_of(
    st.integers(-3, 6),
    st.lists(st.integers(-3, 6), min_size=2, max_size=2),
    *[st.lists(st.integers(-5, 9), min_size=4, max_size=4)] * 3,
    st.sampled_from([[1, 2, 3], 1.5]),
)
TAPS = st.one_of(
    st.none(),
    st.tuples(st.integers(1, 13)),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.integers(1, 8).map(lambda k: (k, k)),
    st.sampled_from([(0,), (129,), (1, 2, 3)]),
)


@st.composite
def calls(draw):
    """Arguments of upfirdn2d, most of them right."""
    shape = [draw(st.integers(0, 2)), draw(st.integers(0, 5)), draw(st.integers(1, 10)), draw(st.integers(1, 20))]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(shape, dtype=torch.float64, generator=generator).to(draw(st.sampled_from(list(DTYPES.values()))))
    layout = draw(st.sampled_from(["contiguous", "channels_last", *LAYOUTS]))
    taps = draw(TAPS)
    return {
        "x": LAYOUTS[layout](x),
        "f": None if taps is None else torch.randn(taps, generator=generator),
        "up": draw(SCALES),
        "down": draw(SCALES),
        "padding": draw(PADDINGS),
        "flip_filter": draw(st.booleans()),
        "gain": draw(st.one_of(st.just(1), st.floats(-4, 4, width=32))),
    }


def outcome(call):
    try:
        return call()
    except (ValueError, TypeError) as error:
        return type(error), str(error)


@pytest.mark.kernels
@settings(deadline=None, derandomize=True, max_examples=200)
@given(arguments=calls())
def test_any_arguments_give_the_definition_or_a_clear_error(arguments, backend, device):
    x, f = arguments["x"].to(device), arguments["f"]
    f = None if f is None else f.to(device)
    options = {name: value for name, value in arguments.items() if name not in ("x", "f")}
    x.requires_grad_()
    y = outcome(lambda: upfirdn2d(x, f, **options, backend=backend))
    eager = outcome(lambda: upfirdn2d(x, f, **options, backend="eager"))
    if not isinstance(y, torch.Tensor) or not isinstance(eager, torch.Tensor):
        assert y == eager
        return
    up, down = (gankern.ops.upfirdn2d.parse_scaling("", name, options[name]) for name in ("up", "down"))
    padding = gankern.ops.upfirdn2d.parse_padding("", options["padding"])
    taps = torch.ones([1, 1]) if f is None else f.cpu()
    expected = by_the_definition(x.detach().cpu(), taps, up, down, padding, options["flip_filter"], options["gain"])
    assert y.dtype == x.dtype
    assert y.shape == expected.shape
    eps = max(torch.finfo(x.dtype).eps, 1e-12)
    scale = 1 + float(taps.abs().sum()) ** (2 if taps.ndim == 1 else 1) * abs(options["gain"])
    bound = {"rtol": 2 * eps, "atol": 8 * eps * scale}
    torch.testing.assert_close(y.detach().double().cpu(), expected, **bound)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(0)).to(y)
    torch.testing.assert_close(
        *(torch.autograd.grad(result, x, dy)[0] for result in (y, eager)), **{**bound, "atol": 40 * eps * scale}
    )
