"""The dialect of torch_utils.ops: the published names, signatures and results, to the second gradient."""

from __future__ import annotations

import importlib
import types

import pytest
import torch
from parity import Draw, assert_same, signature

import gankern
from gankern.dropin import calls, nvlabs

RESAMPLE = "padding=0, flip_filter=False, gain=1"
LRELU = "x, fu=None, fd=None, b=None, up=1, down=1, padding=0, gain=1.414, slope=0.2, clamp=None, flip_filter=False"
PUBLISHED = {
    "bias_act": {
        "bias_act": "x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, impl='cuda'",
        "_bias_act_ref": "x, b=None, dim=1, act='linear', alpha=None, gain=None, clamp=None",
        "activation_funcs": None,
    },
    "upfirdn2d": {
        "setup_filter": "f, device=device(type='cpu'), normalize=True, flip_filter=False, gain=1, separable=None",
        "upfirdn2d": f"x, f, up=1, down=1, {RESAMPLE}, impl='cuda'",
        "_upfirdn2d_ref": f"x, f, up=1, down=1, {RESAMPLE}",
        "filter2d": f"x, f, {RESAMPLE}, impl='cuda'",
        "upsample2d": f"x, f, up=2, {RESAMPLE}, impl='cuda'",
        "downsample2d": f"x, f, down=2, {RESAMPLE}, impl='cuda'",
        "_parse_scaling": "scaling",
        "_parse_padding": "padding",
        "_get_filter_size": "f",
    },
    "conv2d_resample": {
        "conv2d_resample": "x, w, f=None, up=1, down=1, padding=0, groups=1, flip_weight=True, flip_filter=False",
        "_parse_padding": "padding",
        "_get_filter_size": "f",
    },
    "conv2d_gradfix": {
        "conv2d": "input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1",
        "conv_transpose2d": "input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1",
        "no_weight_gradients": "disable=True",
        "enabled": None,
        "weight_gradients_disabled": None,
    },
    "grid_sample_gradfix": {"grid_sample": "input, grid", "enabled": None},
    "fma": {"fma": "a, b, c"},
    "filtered_lrelu": {"filtered_lrelu": f"{LRELU}, impl='cuda'", "_filtered_lrelu_ref": LRELU},
    "custom_ops": {
        "get_plugin": "module_name, sources, headers=None, source_dir=None, **build_kwargs",
        "verbosity": None,
    },
}
SEEDS = range(12)


@pytest.fixture
def published(project):
    """The stand-in's own functions: `published("bias_act")`."""
    project("nvlabs")
    return lambda name: importlib.import_module(f"torch_utils.ops.{name}")


def module(name: str) -> types.SimpleNamespace:
    return types.SimpleNamespace(**nvlabs.MODULES[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_name_is_there_with_the_published_signature(name):
    ours = nvlabs.custom_ops(lambda attribute: None) if name == "custom_ops" else nvlabs.MODULES[name]
    for attribute, expected in PUBLISHED[name].items():
        assert attribute in ours
        if expected is not None:
            assert signature(ours[attribute]) == expected, attribute


def test_every_row_of_the_activations_has_the_published_attributes(published):
    ours, theirs = nvlabs.activation_funcs, published("bias_act").activation_funcs
    assert list(ours) == list(theirs)
    for i, (name, row) in enumerate(ours.items()):
        assert (row.def_alpha, row.def_gain) == (theirs[name].def_alpha, theirs[name].def_gain)
        assert row["def_gain"] == row.def_gain
        assert row.cuda_idx == i + 1
        assert row.has_2nd_grad == (name not in ("linear", "relu", "lrelu"))
        assert row.ref == {"linear": "", "swish": "x"}.get(name, "y")
        x = torch.linspace(-2, 2, 9)
        torch.testing.assert_close(row.func(x, alpha=0.3, ignored=1), theirs[name].func(x, 0.3))
    with pytest.raises(AttributeError):
        _ = row.nothing


@pytest.mark.parametrize("name", ["bias_act", "upfirdn2d", "filtered_lrelu"])
def test_building_has_been_done_already(name):
    assert module(name)._init()
    assert module(name)._init("none")
    assert module(name)._plugin is not None


@pytest.mark.parametrize("act", nvlabs.activation_funcs)
def test_bias_act(published, act):
    for seed in SEEDS:
        draw = Draw(seed)
        shape = [draw.randint(1, 5) for _ in range(draw.randint(1, 5))]
        dim = draw.randrange(len(shape))
        tensors = {"x": draw.tensor(*shape)}
        if draw.random() < 0.7:
            tensors["b"] = draw.tensor(shape[dim])
        options = {"dim": dim, "act": act, "impl": draw.choice(("ref", "cuda"))}
        if draw.random() < 0.5:
            options["gain"] = draw.choice((0.5, 2, torch.tensor(1.5)))
            options["alpha"] = draw.choice((0.1, torch.tensor(0.3)))
            options["clamp"] = draw.choice((None, 0.8, 256))
        assert_same(nvlabs.bias_act, published("bias_act").bias_act, tensors, options)


@pytest.mark.parametrize("name", ["upfirdn2d", "filter2d", "upsample2d", "downsample2d"])
def test_resampling(published, name):
    for seed in SEEDS:
        draw = Draw(seed)
        options = {"f": draw.filter(), "flip_filter": draw.random() < 0.5, "gain": draw.choice((1, 4, 0.5))}
        options["padding"] = draw.padding(6 if name == "upfirdn2d" else -1)
        if name in ("upfirdn2d", "upsample2d"):
            options["up"] = draw.scale()
        if name in ("upfirdn2d", "downsample2d"):
            options["down"] = draw.scale()
        ours, theirs = getattr(nvlabs, name), getattr(published("upfirdn2d"), name)
        assert_same(ours, theirs, {"x": draw.image(least=8)}, options)


def test_a_blur_longer_than_the_kernels_hold(published):
    """StyleGAN-T starts with a sigma of 32: 193 taps."""
    f = torch.arange(-96, 97).div(32).square().neg().exp2()
    tensors, options = {"x": Draw(0).image()}, {"f": f / f.sum(), "gain": 2}
    assert_same(nvlabs.filter2d, published("upfirdn2d").filter2d, tensors, options)
    with pytest.raises(ValueError, match="1 to 128 taps"):
        gankern.filter2d(tensors["x"], f)


@pytest.mark.parametrize(
    ("taps", "options"),
    [
        ([1, 3, 3, 1], {}),
        (None, {}),
        (3, {"gain": 2}),
        (list(range(1, 10)), {}),
        ([[1, 2], [3, 4]], {"flip_filter": True}),
    ],
)
def test_setup_filter(published, taps, options):
    torch.testing.assert_close(
        nvlabs.setup_filter(taps, **options), published("upfirdn2d").setup_filter(taps, **options)
    )
    assert nvlabs.setup_filter(taps, device="meta").device.type == "meta"


def test_the_parsers_of_arguments():
    assert nvlabs._parse_scaling(2) == nvlabs._parse_scaling([2, 2]) == (2, 2)
    assert nvlabs._parse_padding(1) == (1, 1, 1, 1)
    assert nvlabs._parse_padding([1, 2]) == (1, 1, 2, 2)
    assert nvlabs._get_filter_size(None) == (1, 1)
    assert nvlabs._get_filter_size(torch.ones([3, 5])) == (5, 3)


def test_conv2d_resample(published):
    for seed in SEEDS:
        draw = Draw(seed)
        groups, kernel = draw.choice((1, 2)), draw.choice((1, 3))
        options = {
            "f": draw.choice((None, nvlabs.setup_filter([1, 3, 2, 1]))),
            "groups": groups,
            "padding": kernel // 2,
        }
        options |= {"up": draw.choice((1, 2)), "down": draw.choice((1, 2)), "flip_weight": draw.random() < 0.5}
        options["flip_filter"] = draw.random() < 0.5
        tensors = {"x": draw.image(c=4), "w": draw.tensor(6, 4 // groups, kernel, kernel)}
        assert_same(nvlabs.conv2d_resample, published("conv2d_resample").conv2d_resample, tensors, options)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_convolutions(published, name):
    for seed in SEEDS:
        draw = Draw(seed)
        groups, stride = draw.choice((1, 2)), draw.choice((1, 2, (2, 1)))
        options = {
            "stride": stride,
            "padding": draw.choice((0, 1, (1, 0))),
            "dilation": draw.choice((1, 2)),
            "groups": groups,
        }
        shape = (6, 2) if name == "conv2d" else (4, 3)
        weight = draw.tensor(shape[0], shape[1] * (1 if groups == 2 or name != "conv2d" else 2), 3, 2)
        outputs = 6 if name == "conv2d" else 3 * groups
        tensors = {"input": draw.image(c=4, least=6), "weight": weight}
        if draw.random() < 0.5:
            tensors["bias"] = draw.tensor(outputs)
        theirs = getattr(published("conv2d_gradfix"), name)
        assert_same(getattr(nvlabs, name), theirs, tensors, options)


def test_convolutions_of_forms_that_only_torch_has(published):
    image, weight = Draw(0).image(n=1, c=3)[0], Draw(1).tensor(3, 3, 3, 3)
    theirs = published("conv2d_gradfix")
    assert_same(nvlabs.conv2d, theirs.conv2d, {"input": image, "weight": weight}, {"padding": 1})
    assert_same(nvlabs.conv2d, theirs.conv2d, {"input": image[None], "weight": weight}, {"padding": "same"})
    assert_same(nvlabs.conv_transpose2d, theirs.conv_transpose2d, {"input": image, "weight": weight}, {})


@pytest.mark.parametrize("arguments", [(), (True,), (False,)])
def test_no_weight_gradients_in_both_forms(arguments):
    x, weight = torch.ones([1, 1, 3, 3], requires_grad=True), torch.ones([1, 1, 2, 2], requires_grad=True)
    y = nvlabs.conv2d(x, weight)
    with nvlabs.no_weight_gradients(*arguments):
        y.sum().backward()
    assert x.grad is not None
    assert (weight.grad is None) == (arguments != (False,))


def test_grid_sample(published):
    for seed in SEEDS:
        draw = Draw(seed)
        x = draw.image()
        tensors = {"input": x, "grid": draw.tensor(x.shape[0], 5, 4, 2)}
        assert_same(nvlabs.grid_sample, published("grid_sample_gradfix").grid_sample, tensors, {})


@pytest.mark.parametrize("shapes", [[(2, 3, 4, 5)] * 3, [(2, 3, 4, 5), (2, 3, 1, 1), (4, 5)], [(5,), (2, 1, 5), (1,)]])
def test_fma_with_broadcasting(published, shapes):
    tensors = {name: Draw(i).tensor(*shape) for i, (name, shape) in enumerate(zip("abc", shapes, strict=True))}
    assert_same(nvlabs.fma, published("fma").fma, tensors, {})


def test_filtered_lrelu(published):
    for seed in SEEDS:
        draw = Draw(seed)
        x = draw.image(least=6)
        options = {"fu": draw.filter(), "fd": draw.filter(), "up": draw.choice((1, 2, 4)), "down": draw.choice((1, 2))}
        options |= {"padding": draw.padding(6), "clamp": draw.choice((None, 0.7)), "flip_filter": draw.random() < 0.5}
        options |= {"gain": draw.choice((1, 1.4)), "slope": draw.choice((0.2, 0)), "impl": draw.choice(("ref", "cuda"))}
        tensors = {"x": x, "b": draw.tensor(x.shape[1])}
        assert_same(nvlabs.filtered_lrelu, published("filtered_lrelu").filtered_lrelu, tensors, options)


def test_the_references_are_plain_pytorch():
    x, f = torch.ones([1, 2, 8, 8]), torch.ones([2, 2])
    calls.CALLS.clear()
    nvlabs._bias_act_ref(x, act="lrelu")
    nvlabs._upfirdn2d_ref(x, f)
    nvlabs._filtered_lrelu_ref(x)
    assert set(calls.table()) == {("bias_act", "eager"), ("upfirdn2d", "eager"), ("filtered_lrelu", "eager")}


def test_an_implementation_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="impl must be 'cuda' or 'ref', got 'triton'"):
        nvlabs.bias_act(torch.ones([1, 1]), impl="triton")


def test_bfloat16_runs_where_the_published_kernels_have_none():
    """R3GAN: bias_act with gain 1 and a 2-D filter, on bfloat16."""
    x = torch.randn([2, 3, 8, 8]).bfloat16()
    y = nvlabs.upfirdn2d(
        nvlabs.bias_act(x, torch.zeros([3]).bfloat16(), act="lrelu", gain=1), torch.ones([4, 4]), padding=2
    )
    assert y.dtype == torch.bfloat16
    assert y.shape == (2, 3, 9, 9)
