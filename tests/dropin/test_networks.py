"""Level "models": the published forms of modulated_conv2d against gankern's, to the second gradient."""

from __future__ import annotations

import importlib

import pytest
import torch
from parity import Draw, assert_same, signature
from standins import fill

import gankern
from gankern.dropin import networks

FORMS = {
    networks.modulated_conv2d: (
        "x, weight, styles, noise=None, up=1, down=1, padding=0, resample_filter=None, demodulate=True, "
        "flip_weight=True, fused_modconv=True"
    ),
    networks.modulated_conv2d_of_stylegan3: "x, w, s, demodulate=True, padding=0, input_gain=None",
}


@pytest.mark.parametrize("function", FORMS, ids=lambda f: f.__name__)
def test_both_forms_have_the_published_signature(function):
    assert signature(function) == FORMS[function]


def test_the_form_of_stylegan2(project):
    project("nvlabs")
    theirs = importlib.import_module("training.networks").modulated_conv2d
    for seed in range(12):
        draw = Draw(seed)
        up, kernel = draw.choice((1, 2)), draw.choice((1, 3))
        x = draw.image(c=4)
        n, h, w = x.shape[0], x.shape[2] * up, x.shape[3] * up
        tensors = {"x": x, "weight": draw.tensor(3, 4, kernel, kernel), "styles": draw.tensor(n, 4)}
        if draw.random() < 0.7:
            tensors["noise"] = draw.tensor(*draw.choice(([h, w], [n, 1, h, w])))
        options = {
            "up": up,
            "padding": kernel // 2,
            "demodulate": draw.random() < 0.7,
            "flip_weight": draw.random() < 0.5,
        }
        options["resample_filter"] = gankern.setup_filter([1, 3, 2, 1]) if up == 2 else None
        options["fused_modconv"] = draw.random() < 0.5
        assert_same(networks.modulated_conv2d, theirs, tensors, options)


def test_the_form_of_stylegan3(project):
    project("nvlabs")
    theirs = importlib.import_module("training.networks_stylegan3").modulated_conv2d
    for seed in range(12):
        draw = Draw(seed)
        x, kernel = draw.image(c=4), draw.choice((1, 3))
        tensors = {"x": x, "w": draw.tensor(3, 4, kernel, kernel), "s": draw.tensor(x.shape[0], 4)}
        options = {"padding": kernel - 1, "demodulate": draw.random() < 0.7}
        if draw.random() < 0.7:
            tensors["input_gain"] = draw.tensor(*draw.choice(([], [4], [x.shape[0], 4]))).abs()
        assert_same(networks.modulated_conv2d_of_stylegan3, theirs, tensors, options)


def test_a_layer_of_stylegan3_is_the_same_before_and_after(project):
    project("nvlabs")
    module = importlib.import_module("training.networks_stylegan3")
    draw = Draw(0)
    f = gankern.setup_filter([1, 3, 5, 3, 2, 1])
    tensors = {"x": draw.image(c=4), "w": draw.tensor(3, 4, 3, 3), "b": draw.tensor(3)}
    tensors["s"] = draw.tensor(tensors["x"].shape[0], 4)

    def patched(**arguments):
        with gankern.patched(level="models"):
            return module.layer(**arguments)

    assert_same(patched, module.layer, tensors, {"f": f})


def test_a_function_with_other_parameters_is_left_alone(project):
    folder = project("nvlabs")
    fill(folder, {"training/networks_mine.py": "def modulated_conv2d(x, weight, mine):\n    return 'mine'\n"})
    report = gankern.patch(level="models")
    assert importlib.import_module("training.networks_mine").modulated_conv2d(0, 0, 0) == "mine"
    report = gankern.patch(level="models")
    assert any("left alone  training.networks_mine.modulated_conv2d" in line for line in report.done)


def test_half_precision_with_weights_in_float32():
    x, w, s = torch.randn([2, 4, 8, 8]).bfloat16(), torch.randn([3, 4, 3, 3]), torch.randn([2, 4])
    assert networks.modulated_conv2d(x, w, s, padding=1).dtype == torch.bfloat16
    assert networks.modulated_conv2d_of_stylegan3(x, w, s, padding=2, input_gain=torch.ones([])).dtype == torch.bfloat16
