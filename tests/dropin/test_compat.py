"""gankern.patch(compat=True): what today's stack refuses is taken again, and only for so long."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest
import torch
from standins import fill

import gankern


@pytest.fixture
def mended():
    with gankern.patched(compat=True):
        yield


def test_a_sampler_passes_its_dataset_on(project):
    project("nvlabs")
    misc = importlib.import_module("torch_utils.misc")
    with pytest.raises(TypeError):
        misc.InfiniteSampler([1, 2])
    with gankern.patched(compat=False), pytest.raises(TypeError):
        misc.InfiniteSampler([1, 2])
    with gankern.patched():
        loader = iter(torch.utils.data.DataLoader([5, 6], sampler=misc.InfiniteSampler([5, 6]), batch_size=2))
        assert [next(loader).tolist() for _ in range(2)] == [[5, 6], [5, 6]]
        torch.utils.data.RandomSampler([1, 2])
    with pytest.raises(TypeError):
        misc.InfiniteSampler([1, 2])


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_adam_takes_integer_betas(optimizer):
    weight = torch.nn.Parameter(torch.ones([2]))
    make = getattr(torch.optim, optimizer)
    with pytest.raises(ValueError, match="betas"):
        make([weight], betas=[0, 0.99])
    before = make.__init__
    with gankern.patched():
        for opt in (make([weight], betas=[0, 0.99]), make([weight], 1e-3, (0, 0.99)), make(params=[weight], lr=1e-3)):
            assert all(isinstance(b, float) for b in opt.param_groups[0]["betas"])
        opt.step()
    assert make.__init__ is before


def test_a_subclass_of_adam_made_while_patched_works_afterwards():
    with gankern.patched():
        mine = type("Mine", (torch.optim.Adam,), {})
    assert mine([torch.nn.Parameter(torch.ones([2]))]).param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.filterwarnings("error")
def test_percentile_takes_interpolation(mended):
    values = np.array([1.0, 2.0, 4.0])
    assert np.percentile(values, 40, interpolation="lower") == 1
    assert np.percentile(values, 40, interpolation="higher") == 2
    assert np.percentile(values, 50) == np.percentile(a=values, q=50, method="linear") == 2


@pytest.fixture
def scipy(monkeypatch, tmp_path):
    """A SciPy that is new: sqrtm takes the matrix alone."""
    (tmp_path / "scipy").mkdir()
    (tmp_path / "scipy/__init__.py").write_text("")
    code = "import numpy\ndef sqrtm(A):\n    return numpy.diag(numpy.sqrt(numpy.diag(A)))\n"
    (tmp_path / "scipy/linalg.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "scipy"]:
        del sys.modules[name]


@pytest.mark.parametrize("imported", [False, True])
def test_sqrtm_gives_an_error_estimate_where_it_was_asked_not_to_print_it(scipy, imported):
    if imported:
        importlib.import_module("scipy.linalg")
    with gankern.patched():
        linalg: types.ModuleType = importlib.import_module("scipy.linalg")
        root, error = linalg.sqrtm(np.diag([4.0, 9.0]), disp=False)
        assert root.tolist() == [[2, 0], [0, 3]]
        assert error == 0
        assert linalg.sqrtm(np.diag([4.0])).tolist() == [[2]]
    with pytest.raises(TypeError):
        linalg.sqrtm(np.diag([4.0]), disp=False)


@pytest.mark.parametrize("exists", [False, True])
def test_a_module_of_torchvision_is_found_under_its_old_name(project, exists):
    files = {"torchvision/__init__.py": "", "torchvision/transforms/__init__.py": ""}
    files["torchvision/transforms/_functional_tensor.py"] = "def rgb_to_grayscale(x): return 'grey'\n"
    if exists:
        files["torchvision/transforms/functional_tensor.py"] = "def rgb_to_grayscale(x): return 'own'\n"
    fill(project("nvlabs"), files)
    name = "torchvision.transforms.functional_tensor"
    with gankern.patched():
        assert importlib.import_module(name).rgb_to_grayscale(0) == ("own" if exists else "grey")
    if not exists:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_a_process_that_does_not_ask_is_not_touched():
    assert "__init__" not in vars(torch.utils.data.Sampler)
    assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("gankern")]
