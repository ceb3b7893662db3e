"""Compiled gradients are those of the losses, and what cannot be compiled goes on without."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN, growing_state
from torch import Tensor

from gankern.models import cli
from gankern.models.training.compiling import CompiledGradients
from gankern.models.training.data import ImageData, batches, open_data
from gankern.models.training.loop import images_of, train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import NETWORKS, TrainingState

# One growth from 4x4 to 8x8, which fades in from the third step on.
GROWING = replace(PROGAN, growth=replace(PROGAN.growth, train_kimg=0.0, fade_kimg=0.064, batch={}))  # type: ignore[type-var]


def train(state: TrainingState, options: TrainingOptions, data: ImageData, steps: int) -> list[dict[Any, list[float]]]:
    """Some steps from a seed, and the statistics of each."""
    torch.manual_seed(7)
    found, phases = [], make_phases(state, options)
    for images, labels in itertools.islice(batches(data, images_of(options)), steps):
        train_step(state, phases, options, data, images, labels)
        found.append(state.stats.read())
        state.stats.values = {}
    return found


@pytest.mark.parametrize(
    ("make", "options", "resolution", "graphs"),
    [
        (tiny_state, replace(OPTIONS, r1_interval=2, pl_interval=2), 8, 4),
        (growing_state, GROWING, 16, 2),
        (growing_state, replace(GROWING, growth=None, loss="rpgan", batch_gpu=4, r2_gamma=1.0, r1_interval=1), 16, 2),
    ],
    ids=["styles", "growing", "relativistic-in-parts"],
)
def test_compiled_steps_are_the_steps(
    make: Callable[[TrainingOptions], TrainingState],
    options: TrainingOptions,
    resolution: int,
    graphs: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = open_data(f"digits:{resolution}", cond=True)
    eager, compiled = make(options), make(options)
    compiled.compiled = CompiledGradients("aot_eager")
    wanted, found = train(eager, options, data, 4), train(compiled, options, data, 4)
    for a, b in zip(wanted, found, strict=True):
        assert a.keys() == b.keys()
        for key, values in a.items():
            assert b[key] == pytest.approx(values, rel=1e-5, abs=1e-6)
    one, other = eager.state_dict(), compiled.state_dict()
    for name in (*NETWORKS, "pl_mean", "rng_cpu"):
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)
    assert len(compiled.compiled.graphs) == graphs
    assert "cannot be compiled" not in capsys.readouterr().out


def wrong(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    """A compiler that doubles the first result."""

    def run(*args: Any) -> Any:
        first, *others = graph.forward(*args)
        return [2 * first, *others]

    return run


def failing(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
    raise RuntimeError("no C++ compiler")


@pytest.mark.parametrize(("compiler", "reason"), [(wrong, "results differ by"), (failing, "no C++ compiler")])
def test_what_is_wrong_or_cannot_be_compiled_is_not_used_and_said(
    digits8: ImageData, capsys: pytest.CaptureFixture[str], compiler: Callable[..., Any], reason: str
) -> None:
    options = replace(OPTIONS, pl_interval=0, r1_interval=0)
    eager, refused = tiny_state(options), tiny_state(options)
    refused.compiled = CompiledGradients(compiler)
    assert train(eager, options, digits8, 2) == train(refused, options, digits8, 2)
    for name in (*NETWORKS, "rng_cpu"):
        torch.testing.assert_close(eager.state_dict()[name], refused.state_dict()[name], rtol=0, atol=0)
    printed = capsys.readouterr().out
    assert printed.count("cannot be compiled and runs without") == 2  # Gmain and Dmain, once each
    assert reason in printed


def test_weights_normalised_once_for_a_step_are_not_compiled(
    digits8: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(OPTIONS, pl_interval=0, r1_interval=0, sn_once=True)
    state = tiny_state(options)
    state.compiled = CompiledGradients("aot_eager")
    train(state, options, digits8, 1)
    assert "(sn_once) lie outside of what is compiled" in capsys.readouterr().out


def test_the_command_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Watched(CompiledGradients):
        def __init__(self) -> None:
            super().__init__()
            self.refused = {"Gmain", "Dmain", "Dreg"}  # nothing is compiled in this test
            made.append(self)

    monkeypatch.setattr("gankern.models.training.compiling.CompiledGradients", Watched)
    args = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.008", "--batch", "8", "--fp32", "--cbase", "32"]
    assert cli.main(["train", *args, "--outdir", str(tmp_path)]) == 0
    assert not made
    assert cli.main(["train", *args, "--compile", "--outdir", str(tmp_path)]) == 0
    assert len(made) == 1
