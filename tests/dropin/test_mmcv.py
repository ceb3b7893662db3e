"""The dialect of mmcv.ops: functions with its arguments take the place of those that have the same."""

from __future__ import annotations

import importlib

import pytest
import torch
from parity import Draw, assert_same, signature
from standins import fill

import gankern
from gankern.dropin import mmcv, nvlabs

RESAMPLE = "padding=0, flip_filter=False, gain=1, use_custom_op=True"
PUBLISHED = {
    mmcv.bias_act: "input, bias=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, use_custom_op=True",
    mmcv.upfirdn2d: f"input, filter, up=1, down=1, {RESAMPLE}",
    mmcv.filter2d: f"input, filter, {RESAMPLE}",
    mmcv.upsample2d: f"input, filter, up=2, {RESAMPLE}",
    mmcv.downsample2d: f"input, filter, down=2, {RESAMPLE}",
    mmcv.filtered_lrelu: (
        "input, filter_up=None, filter_down=None, bias=None, up=1, down=1, padding=0, gain=1.414, slope=0.2, "
        "clamp=None, flip_filter=False, use_custom_op=True"
    ),
    mmcv.fused_bias_leakyrelu: "input, bias, negative_slope=0.2, scale=1.414",
}
PACKAGE = {
    "mmcv/__init__.py": "",
    "mmcv/ops/__init__.py": "from .bias_act import bias_act\nfrom .upfirdn2d import upfirdn2d\n",
    "mmcv/ops/bias_act.py": (
        "class Built: pass\n"
        "def bias_act(input, bias=None, dim=1, act='linear', alpha=None, gain=None, clamp=None, use_custom_op=True):\n"
        "    return 'own'\n"
    ),
    "mmcv/ops/upfirdn2d.py": "def upfirdn2d(input, kernel, up=1, down=1, pad=(0, 0)):\n    return 'of mmcv 1'\n",
    "user.py": "from mmcv.ops import bias_act\n",
}


@pytest.fixture
def package(project):
    return fill(project("nvlabs"), PACKAGE)


@pytest.mark.parametrize("function", PUBLISHED, ids=lambda f: f.__name__)
def test_every_name_has_the_published_signature(function):
    assert signature(function) == PUBLISHED[function]


@pytest.mark.parametrize("imported", [False, True])
def test_functions_with_the_same_parameters_are_replaced_and_others_not(package, imported):
    if imported:
        importlib.import_module("mmcv.ops")
    gankern.patch()
    ops = importlib.import_module("mmcv.ops")
    assert ops.bias_act is mmcv.bias_act
    assert importlib.import_module("mmcv.ops.bias_act").Built
    assert ops.upfirdn2d(None, None) == "of mmcv 1"
    assert "left alone  mmcv.ops.upfirdn2d.upfirdn2d" in gankern.patch().done
    if imported:
        gankern.unpatch()
        assert ops.bias_act(None) == "own"


def test_each_computes_what_the_same_op_of_another_dialect_does():
    draw = Draw(0)
    x, f, b = draw.image(c=3, least=6), draw.tensor(3, 4).float(), draw.tensor(3)
    assert_same(
        mmcv.bias_act,
        lambda input, bias, **kw: nvlabs.bias_act(input, bias, **kw),
        {"input": x, "bias": b},
        {"act": "swish"},
    )
    for name in ("upfirdn2d", "filter2d", "upsample2d", "downsample2d"):
        ours, theirs = getattr(mmcv, name), getattr(nvlabs, name)
        options = {"filter": f, "padding": [1, 2], "gain": 3, "flip_filter": True, "use_custom_op": False}
        assert_same(
            ours, lambda input, filter, use_custom_op, t=theirs, **kw: t(input, filter, **kw), {"input": x}, options
        )
    options = {"filter_up": f, "filter_down": f, "up": 2, "down": 2, "padding": 5, "clamp": 0.5}

    def theirs(input, bias, filter_up, filter_down, **kw):
        return nvlabs.filtered_lrelu(input, filter_up, filter_down, bias, **kw)

    assert_same(mmcv.filtered_lrelu, theirs, {"input": x, "bias": b}, options)
    y = mmcv.fused_bias_leakyrelu(x, b, 0.3, 2.0)
    torch.testing.assert_close(y, nvlabs.bias_act(x, b, act="lrelu", alpha=0.3, gain=2))
