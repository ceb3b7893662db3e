"""The `gankern` command, from its options to what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gankern.models import cli
from gankern.models.training import loop
from gankern.models.training.png import read_png

SMALL = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.096", "--batch", "8", "--precision", "fp32"]


def gankern(*args: object) -> int:
    return cli.main([str(arg) for arg in args])


def losses(run_dir: Path) -> list[dict[str, Any]]:
    lines = (run_dir / "stats.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not k.startswith("Timing")} for line in lines]


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sends this process SIGTERM after a number of training steps."""

    def arrange(steps: int) -> None:
        taken = []

        def step(*args: Any) -> None:
            train_step(*args)
            taken.append(None)
            if len(taken) == steps:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(loop, "train_step", step)

    train_step = loop.train_step
    return arrange


@pytest.fixture
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from gankern.models.presets import stylegan2

    monkeypatch.setitem(stylegan2.PRESETS, "digits", replace(stylegan2.PRESETS["digits"], tick=0.032))


def test_a_dry_run_prints_the_configuration_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gankern("train", "-n", "--outdir", tmp_path / "runs", "--gamma", "3.5", "--mirror") == 0
    printed = capsys.readouterr().out
    assert "1797 images, 32x32 grey, 10 classes" in printed
    assert '"r1_gamma": 3.5' in printed
    assert '"mirror": true' in printed
    assert not (tmp_path / "runs").exists()


def test_training_digits_leaves_a_run_that_can_be_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gankern("train", *SMALL, "--outdir", tmp_path) == 0
    run_dir = tmp_path / "00000-digits-cond"
    names = {path.name for path in run_dir.iterdir()}
    assert {"report.html", "curves.svg", "timeline.png", "network-snapshot-000000.pt", "training_options.json"} <= names
    printed = capsys.readouterr().out
    for word in ("images/s", "class accuracy", "FD-digits", "report.html", "network-snapshot-000000.pt"):
        assert word in printed

    assert gankern("sample", run_dir, "--seeds", "0,3-4", "--trunc", "0.7", "--outdir", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("seed*.png"))) == 30
    assert read_png(tmp_path / "out" / "grid.png").shape == (3 * 68, 10 * 68, 1)
    assert gankern("sample", run_dir, "--seeds", "5", "--class", "7", "--outdir", tmp_path / "one") == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"seed0005-class7.png", "grid.png"}


def test_sampling_a_class_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gankern("train", *SMALL, "--cond", "0", "--outdir", tmp_path, "--kimg", "0.008")
    assert gankern("sample", tmp_path / "00000-digits", "--class", "1", "--outdir", tmp_path / "out") == 1
    assert "--class must be below the model's number of classes = 0, got 1" in capsys.readouterr().err


@pytest.mark.usefixtures("short_ticks")
def test_a_run_stopped_by_a_signal_and_resumed_equals_one_that_was_not(
    tmp_path: Path, stop_after: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gankern("train", *SMALL, "--outdir", tmp_path / "whole") == 0
    stop_after(6)
    assert gankern("train", *SMALL, "--outdir", tmp_path / "parts") == 0
    run_dir = tmp_path / "parts" / "00000-digits-cond"
    assert f"gankern train --resume {run_dir}" in capsys.readouterr().out
    assert len(losses(run_dir)) == 1
    assert gankern("train", "--resume", "latest", "--outdir", tmp_path / "parts", "--device", "cpu") == 0
    assert losses(run_dir) == losses(tmp_path / "whole" / "00000-digits-cond")
    assert len(losses(run_dir)) == 3


def test_resuming_with_other_options_shows_the_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gankern("train", *SMALL, "--outdir", tmp_path, "--kimg", "0.008")
    run_dir = tmp_path / "00000-digits-cond"
    assert gankern("train", "--resume", run_dir, "--batch", "16", "--gamma", "1", "--seed", "0", "--cfg", "auto") == 1
    error = capsys.readouterr().err
    assert "--batch: the run has 8, got 16" in error
    assert "--cfg: the run has digits, got auto" in error
    assert "--gamma" not in error
    assert "--seed" not in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--cfg", "paper"], "--cfg must be one of auto,"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--resume", "latest"], "no run with a snapshot"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--batch", "0"], "batch must be positive"),
        (["--device", "cuda:99"], "cuda"),
    ],
)
def test_a_wrong_option_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert gankern("train", *args, "--outdir", tmp_path) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "seeds"), [("3", [3]), ("0-2", [0, 1, 2]), ("1,4-5,9", [1, 4, 5, 9])])
def test_seeds_are_lists_and_ranges(text: str, seeds: list[int]) -> None:
    assert cli.parser().parse_args(["sample", "x", "--seeds", text]).seeds == seeds


@pytest.mark.parametrize("args", [["sample", "x", "--seeds", "a-b"], ["train", "--mirror", "maybe"], []])
def test_unreadable_options_end_with_usage(args: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main(args)
    assert exit_.value.code == 2


def test_doctor_is_asked_with_the_remaining_options(monkeypatch: pytest.MonkeyPatch) -> None:
    doctor = types.ModuleType("gankern.doctor")
    doctor.main = lambda argv: 3 if argv == ["--json"] else 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gankern.doctor", doctor)
    assert gankern("doctor", "--json") == 3


def test_training_digits_needs_torch_and_numpy_only(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('PIL', 'tqdm', 'skimage', 'sklearn', 'scipy', 'matplotlib', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from gankern.models import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    args = [*SMALL, "--kimg", "0.008", "--outdir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, "train", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "00000-digits-cond" / "report.html").exists()
