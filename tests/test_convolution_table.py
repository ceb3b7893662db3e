"""The table that says which convolutions are faster by Winograd's algorithm."""

from __future__ import annotations

import json

import pytest
import torch

from gankern import convolution_table as table
from gankern import tune


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(table, "OWN", tmp_path / "cache" / "convolution_table.json")
    monkeypatch.setattr(table, "_speedups", {})


def keys():
    return {
        table.key(what, dtype, layout, channels, tiles)
        for what in table.WHAT
        for dtype in table.DTYPES.values()
        for layout in table.LAYOUTS
        for channels in table.CHANNELS
        for tiles in table.TILES
    }


def test_the_table_that_is_brought_has_every_class_and_says_where_it_was_measured():
    brought = json.loads(table.BROUGHT.read_text())
    assert set(brought["speedups"]) == keys()
    assert all(value > 0 for value in brought["speedups"].values())
    assert {"cpu", "threads", "torch", "native"} <= brought.keys()


def test_a_shape_goes_by_the_next_smaller_class(monkeypatch):
    monkeypatch.setitem(table._speedups, table.key("strided", "fp32", "NCHW", 64, 256), 1.5)
    assert table.speedup("strided", torch.float32, "NCHW", 64, 256) == 1.5
    assert table.speedup("strided", torch.float32, "NCHW", 127, 1023) == 1.5
    assert table.speedup("strided", torch.float32, "NCHW", 63, 256) == 0
    assert table.speedup("strided", torch.float32, "channels_last", 64, 256) == 0
    assert table.speedup("strided", torch.bfloat16, "NCHW", 64, 256) == 0


@pytest.mark.parametrize(
    ("dtype", "channels", "tiles"), [(torch.float64, 64, 64), (torch.float32, 15, 64), (torch.float32, 64, 3)]
)
def test_float64_and_what_is_smaller_than_every_class_go_to_torch(dtype, channels, tiles, monkeypatch):
    monkeypatch.setattr(table, "_speedups", dict.fromkeys(keys(), 9.0))
    assert table.speedup("convolution", dtype, "NCHW", channels, tiles) == 0


def test_this_machines_own_table_takes_the_place_of_the_one_that_is_brought():
    path = table.save(dict.fromkeys(keys(), 3.0), {"cpu": "this one"})
    assert table.speedup("convolution", torch.float32, "NCHW", 64, 64) == 3
    assert table._load() == dict.fromkeys(keys(), 3.0)
    assert json.loads(path.read_text())["cpu"] == "this one"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"speedups": {"a": "fast"}}', "not json"])
def test_a_damaged_table_is_named_and_the_one_that_is_brought_used(content):
    table.OWN.parent.mkdir()
    table.OWN.write_text(content)
    with pytest.warns(UserWarning, match="convolution_table.json is not used .*doctor --tune mends it"):
        assert set(table._load()) == keys()


def test_tuning_measures_every_class(monkeypatch, capsys):
    calls = []

    def speedup(what, dtype, layout, channels, size):
        calls.append((what, channels, size))
        return 1.25

    monkeypatch.setattr(tune, "_speedup", speedup)
    assert tune.measure() == dict.fromkeys(keys(), 1.25)
    assert ("transposed", 512, 4) in calls
    assert max(18e-9 * tune.IMAGES * size**2 * channels**2 for _, channels, size in calls) <= tune.MOST_GFLOP


@pytest.mark.parametrize("what", table.WHAT)
def test_both_routines_of_a_class_do_the_same(what):
    strided = what not in ("convolution", "weight gradient")
    large, small = torch.randn(2, 16, 17 if strided else 8, 17 if strided else 8), torch.randn(2, 16, 8, 8)
    ours, theirs = tune._routines(what, large, small, torch.randn(16, 16, 3, 3))
    assert torch.allclose(ours(), theirs(), atol=1e-3)
