"""The check of a checkout finds networks, counts the project's own calls, and measures differences."""

from __future__ import annotations

import peer
import pytest
import torch

import gankern


def test_own_ops_are_counted_until_gankern_takes_their_place(project):
    folder = project("nvlabs")
    assert peer.layouts(folder) == ["training.networks", "training.networks_stylegan3"]
    G, D = peer.build("training.networks")
    expected, calls = peer.count_calls(folder, lambda: peer.results("training.networks", G, D))
    assert calls > 10
    with gankern.patched(level="models"):
        actual, calls = peer.count_calls(folder, lambda: peer.results("training.networks", G, D))
    assert calls == 0
    assert list(actual) == ["images", "gradients", "second order"]
    for key in actual:
        assert 0 < peer.difference(actual[key], expected[key]) < 1e-5


def test_a_difference_is_relative_to_each_tensor():
    one, tiny = torch.ones([4]), torch.full([4], 1e-3)
    assert peer.difference([one, tiny], [one, tiny]) == 0
    assert peer.difference([one, tiny * 1.5], [one, tiny]) == pytest.approx(0.5)
    assert peer.difference([one, one * 1e-12], [one, one * 0]) < 1e-5


@pytest.mark.parametrize("package", ["op", "models/stylegan2/op"])
def test_the_layouts_of_rosinality_are_found(project, package):
    folder = project("rosinality", package=package)
    if package != "op":
        (folder / "model.py").rename(folder / "models/stylegan2/model.py")
    assert peer.layouts(folder) == [package.removesuffix("op").replace("/", ".") + "model"]
