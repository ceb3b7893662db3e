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
    return [{k: v for k, v in json.loads(line).items() if not k.startswith(("Timing", "Resources"))} for line in lines]


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


@pytest.fixture
def tiny_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstrations that grow, tiny: each resolution fades in for 32 images and trains for 16."""
    from dataclasses import replace

    from gankern.models.presets import progan, stylegan

    short: dict[str, Any] = {"train": 0.016, "fade": 0.032, "batch": (4,), "dims": 8, "kimg": 0.12, "tick": 0.024}
    for module, small in (
        (progan, {"fmap_base": 64, "fmap_max": 16}),
        (stylegan, {"channel_base": 64, "map_depth": 2}),
    ):
        name = f"{module.__name__.split('.')[-1]}-digits"
        monkeypatch.setitem(module.PRESETS, name, replace(module.PRESETS[name], **short, **small))


GROWING = ["train", "--data", "digits:16", "--cond", "0", "--device", "cpu", "--precision", "fp32", "--cfg"]


@pytest.mark.usefixtures("tiny_growing")
@pytest.mark.parametrize(
    ("cfg", "resolutions"), [("progan-digits", [4, 8, 8, 16, 16]), ("stylegan-digits", [8, 16, 16, 16, 16])]
)
def test_a_growing_run_stopped_while_it_fades_and_resumed_equals_one_that_was_not(
    tmp_path: Path, stop_after: Callable[[int], None], cfg: str, resolutions: list[int]
) -> None:
    from gankern.models.training.checkpoint import checksum, latest_snapshot, load_snapshot

    assert gankern(*GROWING, cfg, "--outdir", tmp_path / "whole") == 0
    whole, parts = (tmp_path / name / f"00000-digits-{cfg}" for name in ("whole", "parts"))
    assert [tick["Progress/resolution"]["mean"] for tick in losses(whole)] == resolutions
    assert {f"fakes000000-{r}x{r}.png" for r in resolutions} <= {path.name for path in whole.iterdir()}

    stop_after(10)  # 40 images: the middle of a fade for both
    assert gankern(*GROWING, cfg, "--outdir", tmp_path / "parts") == 0
    snapshot = latest_snapshot(parts)
    assert snapshot
    state, _ = load_snapshot(snapshot)
    assert state["grown"][1], "expected to have stopped while a resolution fades in"
    assert gankern("sample", parts, "--seeds", "0", "--outdir", tmp_path / "out") == 0
    size = state["grown"][0]
    assert read_png(tmp_path / "out" / "seed0000.png").shape == (size, size, 1)

    assert gankern("train", "--resume", parts, "--device", "cpu") == 0
    assert losses(parts) == losses(whole)
    ends = [latest_snapshot(run_dir) for run_dir in (whole, parts)]
    assert len({checksum(load_snapshot(end)[0]) for end in ends if end}) == 1


@pytest.mark.usefixtures("tiny_growing")
def test_a_dry_run_shows_the_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert gankern("train", "-n", "--cfg", "progan-v2-8gpus") == 0
    printed = capsys.readouterr().out
    table = [line.split() for line in printed[printed.index("growth ") :].splitlines()[1:]]
    assert table[0] == ["0", "-", "600", "4x4", "512", "0.001"]
    assert table[1] == ["600", "-", "1200", "8x8", "fades", "in", "256", "0.001"]
    assert table[-1] == ["3600", "-", "12000", "32x32", "64", "0.001"]
    assert gankern("train", "-n", "--cfg", "progan-v2-8gpus", "--kimg", "1000", "--batch", "16") == 0
    *_, last, note = capsys.readouterr().out.splitlines()
    assert last.split() == ["600", "-", "1000", "8x8", "fades", "in", "16", "0.001"]
    assert note.strip() == "the run is too short for 32x32"


@pytest.mark.usefixtures("tiny_growing")
def test_a_run_too_short_to_grow_says_so_in_place_of_its_quality(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gankern(*GROWING, "progan-digits", "--outdir", tmp_path, "--kimg", "0.008") == 0
    assert "4x4, of 16x16 (the run was too short to grow)" in capsys.readouterr().out
    assert gankern("train", "--resume", "latest", "--outdir", tmp_path, "--device", "cpu", "--batch", "4") == 1
    assert "--batch: the run has {4: 4, 8: 4, 16: 4}, got 4" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny_growing")
def test_progan_is_not_truncated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gankern(*GROWING, "progan-digits", "--outdir", tmp_path, "--kimg", "0.008")
    assert gankern("sample", tmp_path / "00000-digits-progan-digits", "--trunc", "0.7") == 1
    assert "--trunc must be 1 for ProGAN, which gives every latent the same length, got 0.7" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "eager"), [(["--backend", "eager"], True), ([], False)], ids=["eager", "default"])
def test_the_eager_backend_is_plain_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: list[str], eager: bool
) -> None:
    import gankern as library

    chosen = []
    step = loop.train_step

    def watched(*args: Any) -> None:
        chosen.append("eager   <- runs" in library.explain("bias_act"))
        step(*args)

    monkeypatch.setattr(loop, "train_step", watched)
    assert gankern("train", *SMALL, "--cond", "0", "--outdir", tmp_path, "--kimg", "0.016", *option) == 0
    assert chosen == [eager, eager]


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
    printed, progress = capsys.readouterr()
    for word in ("images/s", "class accuracy", "FD-digits", "report.html", "network-snapshot-000000.pt"):
        assert word in printed
    logged = (run_dir / "log.txt").read_text().splitlines()
    assert [line for line in logged if line in printed.splitlines()] == printed.splitlines()
    assert set(progress.splitlines()) <= set(logged)

    assert gankern("sample", run_dir, "--seeds", "0,3-4", "--trunc", "0.7", "--outdir", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("seed*.png"))) == 30
    assert read_png(tmp_path / "out" / "grid.png").shape == (3 * 68, 10 * 68, 1)
    assert gankern("sample", run_dir, "--seeds", "5", "--class", "7", "--outdir", tmp_path / "one") == 0
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"seed0005-class7.png", "grid.png"}


def test_trackers_are_told_where_the_options_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    run = types.SimpleNamespace(
        id="abc", define_metric=lambda *a, **k: None, log=lambda values: told.extend(values), finish=lambda: None
    )
    stand_in = types.SimpleNamespace(init=lambda **given: run, Image=str)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    options = ["--kimg", "0.008", "--outdir", tmp_path, "--tensorboard", "0", "--wandb", "gans"]
    assert gankern("train", *SMALL, *options) == 0
    assert {"reals", "fakes"} <= set(told)
    assert (tmp_path / "00000-digits-cond" / "wandb-id.txt").read_text() == "abc\n"
    assert not list(tmp_path.glob("*/events.*"))


def test_sampling_a_class_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gankern("train", *SMALL, "--cond", "0", "--outdir", tmp_path, "--kimg", "0.008")
    assert gankern("sample", tmp_path / "00000-digits", "--class", "1", "--outdir", tmp_path / "out") == 1
    assert "--class does not apply: the model was trained without classes" in capsys.readouterr().err


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
    wrong = ["--batch", "16", "--mirror", "--cfg", "auto"]
    assert gankern("train", "--resume", run_dir, *wrong, "--gamma", "1", "--seed", "0") == 1
    error = capsys.readouterr().err
    assert "--mirror: the run has False, got True" in error
    assert "--batch: the run has 8, got 16" in error
    assert "--cfg: the run has digits, got auto" in error
    assert "--gamma" not in error
    assert "--seed" not in error


def test_a_run_for_which_memory_was_too_small_goes_on_with_fewer_images_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gankern("train", *SMALL, "--outdir", tmp_path, "--kimg", "0.008")
    run_dir = tmp_path / "00000-digits-cond"
    assert gankern("train", "--resume", run_dir, "--device", "cpu", "--kimg", "0.016", "--batch-gpu", "4") == 0
    assert "--batch-gpu is not the run's" in capsys.readouterr().out
    assert json.loads((run_dir / "training_options.json").read_text())["training"]["batch_gpu"] == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--cfg", "paper"], "--cfg must be one of auto,"),
        (["--data", "no/such/folder"], "no/such/folder"),
        (["--resume", "latest"], "no run with a snapshot"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--batch", "0"], "batch must be positive"),
        (["--cfg", "progan", "--gamma", "1"], "--gamma weighs what --cfg progan does not compute"),
        (["--device", "cuda:99"], "cuda"),
        (["--desc", "a/b"], "--desc is part of a folder's name, got a/b"),
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
        "for name in ('PIL', 'tqdm', 'skimage', 'sklearn', 'scipy', 'matplotlib', 'safetensors', 'tensorboard'):\n"
        "    sys.modules[name] = None\n"
        "from gankern.models import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    args = [*SMALL, "--kimg", "0.008", "--outdir", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", code, "train", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "00000-digits-cond" / "report.html").exists()
