"""The dialect of rosinality's family: `op` under its many names, and `basicsr.ops`."""

from __future__ import annotations

import importlib

import pytest
import torch
from parity import Draw, assert_same, signature
from standins import BROKEN, fill

import gankern
from gankern.dropin import rosinality

PUBLISHED = {
    rosinality.FusedLeakyReLU: "channel, bias=True, negative_slope=0.2, scale=1.414",
    rosinality.fused_leaky_relu: "input, bias=None, negative_slope=0.2, scale=1.414",
    rosinality.upfirdn2d: "input, kernel, up=1, down=1, pad=(0, 0)",
    rosinality.upfirdn2d_native: "input, kernel, up_x, up_y, down_x, down_y, pad_x0, pad_x1, pad_y0, pad_y1",
}
PACKAGES = ["op", "models/stylegan2/op", "torch_utils/op_edit"]


def results(package: str) -> list[torch.Tensor]:
    torch.manual_seed(1)
    layer = importlib.import_module("model").Layer(3).double()
    x = Draw(0).image(c=3).requires_grad_()
    y = layer(x)
    first = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()], create_graph=True)
    second = torch.autograd.grad(first[0].square().sum(), [x, *layer.parameters()], allow_unused=True)
    return [t.detach() for t in (y, *first, *second) if t is not None]


def assert_equal(actual, expected) -> None:
    assert len(actual) == len(expected) > 8
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", PUBLISHED, ids=lambda f: f.__name__)
def test_every_name_has_the_published_signature(function):
    assert signature(function) == PUBLISHED[function]


@pytest.mark.parametrize("package", PACKAGES)
def test_before_the_import_nothing_of_it_is_run(project, package):
    project("rosinality", package=package)
    expected = results(package)
    project("rosinality", package=package, broken=True)
    gankern.patch()
    assert_equal(results(package), expected)


@pytest.mark.parametrize("package", PACKAGES)
def test_after_the_import_names_taken_from_it_change_too(project, package):
    project("rosinality", package=package)
    expected = results(package)
    own = importlib.import_module(f"{package.replace('/', '.')}.fused_act").CALLS
    own.clear()
    gankern.patch()
    assert_equal(results(package), expected)
    assert own == []
    gankern.unpatch()
    assert_equal(results(package), expected)
    assert own


def test_basicsr_has_a_folder_for_each_op(project):
    folder = project("rosinality", package="basicsr/ops/other")
    files = {"basicsr/ops/__init__.py": ""}
    for name, taken in (("fused_act", "FusedLeakyReLU, fused_leaky_relu"), ("upfirdn2d", "upfirdn2d")):
        files[f"basicsr/ops/{name}/__init__.py"] = f"from .{name} import {taken}\n"
        files[f"basicsr/ops/{name}/{name}.py"] = BROKEN.format(name)
    fill(folder, files)
    gankern.patch()
    from basicsr.ops.fused_act import FusedLeakyReLU
    from basicsr.ops.upfirdn2d import upfirdn2d

    assert FusedLeakyReLU is rosinality.FusedLeakyReLU
    assert upfirdn2d is rosinality.upfirdn2d


def test_a_package_that_is_only_called_op_is_left_alone(project):
    folder = project("rosinality")
    fill(folder, {"vendored/__init__.py": "", "vendored/op/__init__.py": "", "vendored/op/upfirdn2d.py": "mine = 1\n"})
    gankern.patch()
    assert importlib.import_module("vendored.op.upfirdn2d").mine == 1
    assert not hasattr(importlib.import_module("vendored.op.upfirdn2d"), "upfirdn2d")


def reference(input, bias=None, negative_slope=0.2, scale=2**0.5):
    if bias is not None:
        input = input + bias.reshape([1, -1] + [1] * (input.ndim - 2))
    return torch.where(input < 0, input * negative_slope, input) * scale


def test_fused_leaky_relu():
    for seed in range(10):
        draw = Draw(seed)
        shape = [draw.randint(1, 5) for _ in range(draw.randint(2, 4))]
        tensors = {"input": draw.tensor(*shape)} | ({"bias": draw.tensor(shape[1])} if seed % 2 else {})
        options = {"negative_slope": draw.choice((0.2, 0.5)), "scale": draw.choice((1.0, 2**0.5))}
        assert_same(rosinality.fused_leaky_relu, reference, tensors, options)


def general(input, kernel, up=1, down=1, pad=(0, 0)):
    """Zeros between the samples, padding, convolution, decimation, with numbers written out."""
    (up_x, up_y), (down_x, down_y) = ((s, s) if isinstance(s, int) else s for s in (up, down))
    x0, x1, y0, y1 = (*pad, *pad) if len(pad) == 2 else pad
    n, c, h, w = input.shape
    spread = input.new_zeros([n, c, h * up_y, w * up_x])
    spread[:, :, ::up_y, ::up_x] = input
    spread = torch.nn.functional.pad(spread, [x0, x1, y0, y1])
    weight = kernel.flip([0, 1]).to(input.dtype).expand(c, 1, *kernel.shape)
    return torch.nn.functional.conv2d(spread, weight, groups=c)[:, :, ::down_y, ::down_x]


def test_upfirdn2d():
    for seed in range(12):
        draw = Draw(seed)
        kernel = draw.tensor(draw.randint(1, 4), draw.randint(1, 4)).float()
        pad = draw.choice(((2, 1), (1, 3), (4, 3, 2, 1), [0, -1, 1, 2]))
        options = {"kernel": kernel, "up": draw.choice((1, 2, (2, 1))), "down": draw.choice((1, 2, [1, 2])), "pad": pad}
        assert_same(rosinality.upfirdn2d, general, {"input": draw.image()}, options)


def test_upfirdn2d_native_takes_its_numbers_one_by_one():
    x, kernel = Draw(0).image(), Draw(1).tensor(3, 2).float()
    expected = general(x, kernel, (2, 1), (1, 2), (1, 2, 3, 0))
    torch.testing.assert_close(rosinality.upfirdn2d_native(x, kernel, 2, 1, 1, 2, 1, 2, 3, 0), expected)


def test_a_kernel_in_half_precision_is_read_as_float32():
    x = torch.ones([1, 1, 4, 4]).half()
    assert rosinality.upfirdn2d(x, torch.ones([2, 2]).half()).tolist() == [[[[4.0] * 3] * 3]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((), (0.2, 2**0.5)), ((True, 0.1, 3.0), (0.1, 3.0)), ((0.1,), (0.1, 2**0.5)), ((0.1, 3.0), (0.1, 3.0))],
)
def test_the_module_understands_the_arguments_of_older_forks(arguments, expected):
    module = rosinality.FusedLeakyReLU(2, *arguments)
    assert (module.negative_slope, module.scale) == expected
    assert list(module.state_dict()) == ["bias"]


def test_the_module_may_have_no_bias():
    module = rosinality.FusedLeakyReLU(2, bias=False)
    assert module.state_dict() == {}
    assert module(torch.full([1, 2], -1.0)).tolist() == [[pytest.approx(-0.2 * 2**0.5)] * 2]


def test_modules_made_before_are_changed_too(project):
    project("rosinality")
    made = importlib.import_module("model").Layer(2).activate
    own = type(made).forward
    gankern.patch()
    assert type(made).forward is rosinality.FusedLeakyReLU.forward
    gankern.unpatch()
    assert type(made).forward is own
