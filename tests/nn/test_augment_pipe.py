"""AugmentPipe as a whole: how often and how much, that it can be differentiated twice, that nothing is read back."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import gankern
from gankern.nn import AUGPIPES, AugmentPipe, DiffAugment

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "randperm"}


def pipe(name: str = "bgcfnc", p: float = 1, **changes: Any) -> AugmentPipe:
    made = AugmentPipe(**AUGPIPES[name] | changes)
    made.p.fill_(p)
    return made


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64).mul(2).sub(1).to(dtype)


@pytest.fixture(scope="module")
def drawn() -> dict[str, Tensor]:
    """What is drawn for 20,000 images at p = 0.4."""
    torch.manual_seed(0)
    return pipe(p=0.4).draw(torch.zeros(1, dtype=torch.float64).expand(20000))


# Per parameter: how often it does something at p = 0.4, and its mean square when it does.
STATISTICS = {
    "xflip": (0.2, 1),
    "turns": (0.3, (1 + 4 + 9) / 3),
    "xint_x": (0.4, 0.125**2 / 3),
    "xint_y": (0.4, 0.125**2 / 3),
    "scale": (0.4, 0.2**2),
    "before": (1 - math.sqrt(0.6), math.pi**2 / 3),
    "after": (1 - math.sqrt(0.6), math.pi**2 / 3),
    "aniso": (0.4, 0.2**2),
    "xfrac_x": (0.4, 0.125**2),
    "xfrac_y": (0.4, 0.125**2),
    "brightness": (0.4, 0.2**2),
    "contrast": (0.4, 0.5**2),
    "lumaflip": (0.2, 1),
    "hue": (0.4, math.pi**2 / 3),
    "saturation": (0.4, 1),
    "band0": (0.4, 1),
    "band1": (0.4, 1),
    "band2": (0.4, 1),
    "band3": (0.4, 1),
    "noise": (0.4, 0.1**2),
    "cutout": (0.4, 0.5**2),
    "centre_x": (1, 1 / 3),
    "centre_y": (1, 1 / 3),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_a_transform_happens_as_often_and_as_much_as_published(drawn: dict[str, Tensor], name: str) -> None:
    chance, square = STATISTICS[name]
    happens = drawn[name] != 0
    four_sigma = 4 * math.sqrt(chance * (1 - chance) / 20000)
    assert float(happens.double().mean()) == pytest.approx(chance, abs=four_sigma)
    assert float(drawn[name][happens].square().mean()) == pytest.approx(square, rel=0.07)


def test_every_drawn_parameter_is_looked_at_here(drawn: dict[str, Tensor]) -> None:
    assert set(drawn) == set(STATISTICS)


def test_one_or_both_rotations_happen_with_the_probability_of_a_transform(drawn: dict[str, Tensor]) -> None:
    rotated = (drawn["before"] != 0) | (drawn["after"] != 0)
    assert float(rotated.double().mean()) == pytest.approx(0.4, abs=0.014)


def test_parameters_are_independent_but_for_the_two_axes_of_a_shift(drawn: dict[str, Tensor]) -> None:
    names = [name for name in STATISTICS if not name.startswith("centre")]
    happens = torch.stack([(drawn[name] != 0).double() for name in names])
    correlation = torch.corrcoef(happens) - torch.eye(len(names))
    pairs = {(names[i], names[j]) for i, j in (correlation.abs() > 0.04).nonzero().tolist()}
    assert pairs == {(f"{s}_{a}", f"{s}_{b}") for s in ("xint", "xfrac") for a, b in ("xy", "yx")}
    amounts = torch.corrcoef(torch.stack([drawn[name] for name in names])) - torch.eye(len(names))
    assert amounts.abs().max() < 0.04


def test_p_above_one_is_certainty_and_a_strength_scales_it() -> None:
    always = pipe(p=1.7).draw(torch.zeros(500, 1))
    assert all((always[name] != 0).all() for name in ("scale", "before", "after", "hue", "band2", "noise", "cutout"))
    assert 0.4 < float(always["xflip"].mean()) < 0.6
    weaker = pipe(p=0.5, scale=0.4, imgfilter_bands=(1, 0, 1, 0.4)).draw(torch.zeros(4000, 1))
    for name, chance in (("scale", 0.2), ("band0", 0.5), ("band1", 0), ("band3", 0.2), ("hue", 0.5)):
        assert float((weaker[name] != 0).float().mean()) == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize("name", AUGPIPES)
@pytest.mark.parametrize("shape", [(4, 3, 32, 32), (1, 1, 6, 9), (2, 3, 4, 4)], ids=str)
def test_at_p_0_images_stay_as_they_are(name: str, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    warped = "b" in name or "geom" in name  # through the orthogonal filter and back
    torch.testing.assert_close(pipe(name, p=0)(x), x, rtol=0, atol=1e-4 if warped else 1e-6)


@pytest.mark.parametrize("name", AUGPIPES)
def test_at_p_1_each_image_of_a_batch_changes_in_its_own_way(name: str) -> None:
    x = images(1, 3, 16, 16).expand(64, 3, 16, 16)
    y = pipe(name)(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    same = (y - x).flatten(1).abs().amax(1) < 1e-4
    assert same.sum() <= (6 if name == "blit" else 0)  # not flipped, not turned, shifted by less than half a pixel
    assert len(torch.unique(y.flatten(1).mean(1))) > {"blit": 16, "cutout": 40}.get(name, 60)


def test_noise_has_the_standard_deviation_that_was_drawn() -> None:
    x, noisy = torch.zeros(4, 3, 64, 64), pipe("noise")
    drawn = noisy.draw(x)
    drawn["noise"] = torch.tensor([0.1, -0.3, 0, 1])
    std = noisy.transform(x, drawn).flatten(1).std(1)
    torch.testing.assert_close(std, torch.tensor([0.1, 0.3, 0, 1]), rtol=0.03, atol=0)


def test_the_arguments_set_how_much() -> None:
    changed = pipe("geom", scale_std=0.5, rotate_max=0.1, xfrac_std=0.01, aniso_std=0.1)
    drawn = changed.draw(torch.zeros(4000, 1))
    assert float(drawn["scale"].std()) == pytest.approx(0.5, rel=0.1)
    assert float(drawn["aniso"].std()) == pytest.approx(0.1, rel=0.1)
    assert float(drawn["before"].abs().max()) == pytest.approx(0.1 * math.pi, rel=0.01)
    assert float(drawn["xfrac_y"].std()) == pytest.approx(0.01, rel=0.1)
    assert pipe("cutout", cutout_size=0.25).draw(torch.zeros(1, 1))["cutout"] == 0.25


@pytest.mark.parametrize("channels", [1, 3])
def test_it_can_be_differentiated_twice(channels: int) -> None:
    whole, x = pipe(), images(1, channels, 3, 4, dtype=torch.float64).requires_grad_()
    drawn = whole.draw(x)

    def transform(x: Tensor) -> Tensor:
        torch.manual_seed(1)  # of the noise
        return whole.transform(x, drawn)

    assert torch.autograd.gradcheck(transform, x)
    assert torch.autograd.gradgradcheck(transform, x)


def test_r1_on_augmented_images_reaches_the_weights() -> None:
    """The penalty at the images as they were before: through the augmentation and back, against finite differences."""
    whole, x = pipe(), images(2, 3, 6, 6, dtype=torch.float64)
    drawn = whole.draw(x)
    weight = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)

    def penalty(weight: Tensor) -> Tensor:
        def D(x: Tensor) -> Tensor:
            torch.manual_seed(1)
            y = gankern.conv2d(whole.transform(x, drawn), weight, padding=1)
            return y.tanh().sum((1, 2, 3))

        return gankern.r1_penalty(D, x)

    assert torch.autograd.gradcheck(penalty, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_errors_of_fewer_bits_are_at_most_twice_those_of_plain_pytorch(dtype: torch.dtype) -> None:
    x, whole = images(4, 3, 32, 32, dtype=dtype), pipe("bgcf")
    drawn = whole.draw(x)
    exact = whole.transform(x.double(), {name: value.double() for name, value in drawn.items()})
    y = whole.transform(x, drawn)
    with gankern.use_backend("eager"):
        eager = whole.transform(x, drawn)
    assert y.dtype == dtype
    rounding = torch.finfo(dtype).eps * exact.abs().max()
    assert (y.double() - exact).abs().max() <= 2 * (eager.double() - exact).abs().max() + rounding


def test_the_layout_of_the_images_stays_and_changes_nothing() -> None:
    x, whole = images(2, 3, 8, 12), pipe()
    last = x.contiguous(memory_format=torch.channels_last)
    results = []
    for tensor in (x, last, last[:, :, :, ::1]):
        torch.manual_seed(0)
        results.append(whole(tensor))
    assert results[0].is_contiguous()
    assert results[1].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(results[0], results[1])


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = op.overloadpacket.__name__
        boolean_index = name in ("index", "index_put") and any(
            t is not None and t.dtype == torch.bool for t in args[1] if isinstance(t, Tensor)
        )
        self.names.append("nonzero" if boolean_index else name)
        return op(*args, **kwargs or {})


def calls_of(function: Callable[[], object]) -> list[str]:
    with Calls() as calls:
        function()
    return calls.names


@pytest.mark.parametrize("name", AUGPIPES)
def test_nothing_waits_for_the_device_and_p_changes_no_call(name: str) -> None:
    x = images(2, 3, 16, 16).requires_grad_()
    whole = pipe(name)

    def with_gradient() -> None:
        (g,) = torch.autograd.grad(whole(x).square().sum(), x, create_graph=True)
        torch.autograd.grad(g.square().sum(), x)

    calls = calls_of(with_gradient)
    assert not WAITS & set(calls)
    whole.p.fill_(0)
    assert calls_of(with_gradient) == calls


def test_the_lint_finds_what_waits() -> None:
    x = torch.ones(3)
    found = calls_of(lambda: (x.sum().item(), x[x > 0], x.nonzero()))
    assert {"_local_scalar_dense", "nonzero"} <= set(found)


@pytest.mark.parametrize("module", [pipe(), DiffAugment()], ids=lambda module: type(module).__name__)
def test_it_traces_in_one_graph(module: torch.nn.Module) -> None:
    x = images(2, 3, 8, 8)
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=False)
    results = []
    for function in (module, compiled):
        torch.manual_seed(0)
        results.append(function(x))
    assert torch.equal(*results)


def test_copies_and_pickles_draw_the_same() -> None:
    x, whole = images(2, 3, 8, 8), pipe("bgc", p=0.3)
    results = []
    for module in (whole, copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
        torch.manual_seed(0)
        results.append(module(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert "rotate, aniso" in repr(whole)


def test_a_published_state_dict_fits() -> None:
    shapes = {name: tuple(value.shape) for name, value in AugmentPipe().state_dict().items()}
    assert shapes == {"p": (), "Hz_geom": (12,), "Hz_fbank": (4, 43)}


def test_what_is_left_out_draws_no_image_and_does_nothing() -> None:
    x = images(2, 5, 8, 8)
    assert torch.equal(AugmentPipe()(x), x)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: pipe("color")(torch.zeros(1, 4, 8, 8)), ValueError, r"1 or 3 channels.* got \[1, 4, 8, 8\]"),
        (lambda: pipe("geom")(torch.zeros(1, 3, 1, 8)), ValueError, r"H >= 2 and W >= 2.* got \[1, 3, 1, 8\]"),
        (lambda: pipe()(torch.zeros(3, 8, 8)), ValueError, r"AugmentPipe: x must have 4 dimensions"),
        (lambda: pipe()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), TypeError, r"AugmentPipe: x must be float64"),
        (lambda: AugmentPipe(xflip=-1), ValueError, "AugmentPipe: xflip must not be negative, got -1"),
        (lambda: AugmentPipe(imgfilter_bands=[1, 1]), ValueError, r"imgfilter_bands must be 4 numbers .* got \[1, 1\]"),
    ],
)
def test_errors_name_what_was_expected(call: Callable[[], object], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        call()
