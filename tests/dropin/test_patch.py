"""gankern.patch(): foreign code runs on gankern's ops, however it came to be imported, and gets its own back."""

from __future__ import annotations

import importlib
import pickle
import sys
import threading

import pytest
import torch

import gankern
from gankern import dropin

OPS = ("bias_act", "upfirdn2d", "conv2d_resample", "conv2d_gradfix", "grid_sample_gradfix", "fma", "filtered_lrelu")
SUPPLIED = "Supplied by gankern.patch()."


def op(name: str):
    return importlib.import_module(f"torch_utils.ops.{name}")


def own_calls() -> int:
    return sum(len(op(name).CALLS) for name in OPS)


def networks():
    module = importlib.import_module("training.networks")
    torch.manual_seed(1)
    G, D = module.Generator().double(), module.Discriminator().double()
    for part in [*G.modules(), *D.modules()]:
        if hasattr(part, "resample_filter"):
            part.resample_filter = part.resample_filter.float()  # a filter is always float32
    return G, D


def results(G, D) -> list[torch.Tensor]:
    """Images, gradients of a loss, and those of a penalty, whose inner gradient skips the weights."""
    w = torch.linspace(-1, 1, 2 * G.z_dim, dtype=torch.float64).reshape(2, -1).requires_grad_()
    images = G(w)
    first = torch.autograd.grad(D(images).sum(), [w, *G.parameters(), *D.parameters()], allow_unused=True)
    real = images.detach().requires_grad_()
    with op("conv2d_gradfix").no_weight_gradients():
        (inner,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
    second = torch.autograd.grad(inner.square().sum(), [real, *D.parameters()], allow_unused=True)
    return [t.detach() for t in (images, *first, *second) if t is not None]


def assert_equal(actual, expected) -> None:
    assert len(actual) == len(expected) > 10
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)


@pytest.fixture
def expected(project):
    """What the stand-in computes by itself, in the same place as the tests after it."""
    project("nvlabs")
    found = results(*networks())
    assert own_calls() > 0
    return found


@pytest.mark.parametrize("level", dropin.LEVELS)
def test_modules_that_cannot_be_imported_are_supplied(project, expected, level):
    project("nvlabs", broken=True)
    with pytest.raises(ImportError, match="pkg_resources"):
        networks()
    project("nvlabs", broken=True)
    report = gankern.patch(level=level)
    assert report.switches[0] == "ops"
    assert_equal(results(*networks()), expected)
    assert {op(name).__doc__ for name in OPS} == {SUPPLIED}
    assert (sys.modules["training.calls"].modulated == 0) == (level == "models")


@pytest.mark.parametrize("level", dropin.LEVELS)
def test_modules_that_are_imported_already_are_changed_and_changed_back(expected, level):
    """The stand-in of `expected` is imported, its networks hold its modules."""
    G, D = networks()
    before = [dict(vars(op(name))) for name in OPS]
    of_networks = dict(vars(sys.modules["training.networks"]))
    calls, modulated = own_calls(), sys.modules["training.calls"].modulated
    gankern.patch(level=level)
    assert_equal(results(G, D), expected)
    assert own_calls() == calls, "none of its own ops ran"
    assert (sys.modules["training.calls"].modulated == modulated) == (level == "models")
    gankern.unpatch()
    assert [dict(vars(op(name))) for name in OPS] == before
    assert dict(vars(sys.modules["training.networks"])) == of_networks
    assert_equal(results(G, D), expected)
    assert own_calls() > calls


@pytest.mark.parametrize("level", dropin.LEVELS)
def test_a_pickle_that_brings_its_source_runs_on_gankern(project, expected, level):
    data = pickle.dumps(networks())
    project("nvlabs", broken=True)
    gankern.patch(level=level)
    G, D = pickle.loads(data)
    assert type(G).__mro__[1].__module__.startswith("_imported_module_")
    assert_equal(results(G, D), expected)
    assert (sys.modules["training.calls"].modulated == 0) == (level == "models")
    again = pickle.dumps((G, D))
    assert b"gankern" not in again, "a pickle of a patched program does not need gankern"
    gankern.unpatch()
    project("nvlabs")
    assert_equal(results(*pickle.loads(again)), expected)


def test_functions_imported_by_name_are_replaced_everywhere(expected):
    holder = sys.modules["training"]
    holder.taken = op("bias_act").bias_act
    gankern.patch()
    assert holder.taken is op("bias_act").bias_act
    assert holder.taken.__module__ == "gankern.dropin.nvlabs"
    gankern.unpatch()
    assert holder.taken.__module__ == "torch_utils.ops.bias_act"


def test_after_unpatch_the_next_import_finds_the_projects_own(project):
    project("nvlabs")
    gankern.patch()
    supplied = op("bias_act")
    gankern.unpatch()
    assert supplied.bias_act(torch.ones([1, 1]), act="relu", gain=1) == 1, "code that holds it keeps working"
    assert op("bias_act").CALLS == []
    assert sys.modules["torch_utils.ops"].bias_act is op("bias_act")


def test_what_the_user_sets_stays(expected):
    op("conv2d_gradfix").enabled = True
    gankern.patch()
    assert op("conv2d_gradfix").enabled
    sentinel = object()
    op("bias_act").bias_act = sentinel
    gankern.unpatch()
    assert op("bias_act").bias_act is sentinel


def test_names_that_only_a_fork_has_come_from_its_own_file(project):
    project("nvlabs")
    gankern.patch()
    from torch_utils.ops import filtered_lrelu

    assert filtered_lrelu.of_this_fork(3) == ("filtered_lrelu", 3)
    assert filtered_lrelu.filtered_lrelu.__module__ == "gankern.dropin.nvlabs"
    assert "own         torch_utils.ops.filtered_lrelu.of_this_fork: not gankern's" in gankern.patch().done
    assert not hasattr(filtered_lrelu, "nobody_has_this")


def test_a_fork_whose_own_file_does_not_run_says_so(project):
    folder = project("nvlabs", broken=True)
    path = folder / "torch_utils/ops/fma.py"
    path.write_text(path.read_text() + "def special(): pass\n")
    gankern.patch()
    with pytest.raises(AttributeError, match=r"fma\.special is not gankern's, and .* does not run: .*pkg_resources"):
        _ = op("fma").special


@pytest.mark.parametrize("imported", [False, True])
def test_a_function_to_which_a_fork_gave_parameters_is_left_alone(project, imported):
    folder = project("nvlabs")
    path = folder / "torch_utils/ops/fma.py"
    path.write_text(path.read_text() + "def fma(a, b, c, mine=0):\n    return mine\n")
    if imported:
        op("fma")
    gankern.patch()
    assert op("fma").fma(1, 2, 3, mine=4) == 4
    line = "left alone  torch_utils.ops.fma.fma: it has other parameters here"
    assert line in gankern.patch().done
    assert op("bias_act").bias_act.__module__ == "gankern.dropin.nvlabs"


def test_its_own_plugins_are_built_by_its_own_code(project):
    project("nvlabs")
    gankern.patch()
    custom_ops = importlib.import_module("torch_utils.custom_ops")
    assert custom_ops.get_plugin("bias_act_plugin", sources=["bias_act.cu"]) is gankern
    assert custom_ops.get_plugin("their_plugin", sources=[], headers=["a.h"])[1:] == (
        "their_plugin",
        {"headers": ["a.h"]},
    )
    assert custom_ops.verbosity == "brief"


def test_its_own_plugins_are_built_where_the_module_is_imported_already(project):
    project("nvlabs")
    custom_ops = importlib.import_module("torch_utils.custom_ops")
    gankern.patch()
    assert custom_ops.get_plugin("upfirdn2d_plugin", sources=["a.cu"]) is gankern
    assert custom_ops.get_plugin("their_plugin", sources=[])[0] == "built"
    gankern.unpatch()
    assert custom_ops.get_plugin("upfirdn2d_plugin", sources=["a.cu"])[0] == "built"


@pytest.mark.parametrize("package", ["utils.style_ops", "vendored.stylegan.torch_utils.ops"])
def test_copies_in_other_packages_are_found(project, package):
    folder = project("nvlabs", broken=True)
    parts = package.split(".")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True)
    (folder / "torch_utils/ops").rename(target)
    for i in range(1, len(parts)):
        folder.joinpath(*parts[:i], "__init__.py").write_text("")
    gankern.patch()
    assert importlib.import_module(f"{package}.bias_act").__doc__ == SUPPLIED


def test_twice_is_once_and_the_order_does_not_matter():
    clean = list(sys.meta_path)
    try:
        for calls in ([{}, {}], [{"level": "models"}, {}], [{}, {"level": "models"}], [{"compat": False}, {}]):
            for options in calls:
                report = gankern.patch(**options)
            wanted = {"ops", "compat"} | ({"models"} if {"level": "models"} in calls else set())
            assert set(report.switches) == wanted
            assert len(set(report.done)) == len(report.done)
            assert len(sys.meta_path) == len(clean) + 1
            gankern.unpatch()
            assert sys.meta_path == clean
            gankern.unpatch()
    finally:
        gankern.unpatch()


def test_patched_ends_with_its_block_and_leaves_what_was_before():
    sampler = torch.utils.data.Sampler
    with gankern.patched():
        assert "__init__" in vars(sampler)
        with gankern.patched(level="models"):
            assert gankern.patch(compat=False).switches == ("ops", "compat", "models")
        gankern.unpatch()
        assert "__init__" in vars(sampler)
    assert "__init__" not in vars(sampler)
    with pytest.raises(ZeroDivisionError), gankern.patched():
        raise ZeroDivisionError
    assert "__init__" not in vars(sampler)


def test_threads_patch_import_and_unpatch_at_once(project):
    project("nvlabs", broken=True)
    clean, errors = list(sys.meta_path), []

    def work(i: int) -> None:
        try:
            for _ in range(10):
                with gankern.patched(level=dropin.LEVELS[i % 2], compat=i % 3 == 0):
                    y = op(OPS[0]).bias_act(torch.ones([2, 3]), act="relu", gain=1)
                    assert y.sum() == 6
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[i]) for i in range(6)]
    with gankern.patched():  # without it, a module could be forgotten between being found and being run
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    assert sys.meta_path == clean


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="level must be one of ops, models, got 'all'"):
        gankern.patch(level="all")


def test_the_report_says_what_was_done_and_what_ran_where(project, capsys):
    project("nvlabs", broken=True)
    dropin.calls.CALLS.clear()
    gankern.patch()
    op("bias_act").bias_act(torch.ones([1, 2]))
    op("bias_act").bias_act(torch.ones([1, 2]), impl="ref")
    report = dropin.report()
    assert report.calls == {("bias_act", gankern.dispatch.choose("bias_act", "cpu")): 1, ("bias_act", "eager"): 1}
    printed = capsys.readouterr().out
    assert "gankern.patch: ops, compat" in printed
    assert "supplied    torch_utils.ops.bias_act" in printed
    assert "mended      torch.utils.data.Sampler" in printed
    assert "bias_act             eager             1" in printed


def test_a_patched_network_traces_as_one_graph(project):
    project("nvlabs", broken=True)
    gankern.patch(level="models")
    G, _ = networks()
    w = torch.ones([2, G.z_dim], dtype=torch.float64)
    with torch.no_grad():
        compiled = torch.compile(G, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(w), G(w))
