"""`gankern evaluate`, and `gankern train --metric-every`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from gankern.models import cli
from gankern.models.evaluate import measuring
from gankern.models.training.data import open_data
from gankern.models.training.run_folder import read_metrics

SMALL = ["--data", "digits:16", "--device", "cpu", "--kimg", "0.032", "--batch", "8", "--precision", "fp32"]
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


def gankern(*args: object) -> int:
    return cli.main([str(arg) for arg in args])


def short_ticks(patch: pytest.MonkeyPatch) -> None:
    """Ticks of 16 images."""
    from dataclasses import replace

    from gankern.models.presets import stylegan2

    patch.setitem(stylegan2.PRESETS, "digits", replace(stylegan2.PRESETS["digits"], tick=0.016))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANKERN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that measures SWD and MS-SSIM at every tick."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        short_ticks(patch)
        assert gankern("train", *SMALL, "--outdir", folder, "--metric-every", 1, "--num-fake", 16) == 0
    return folder / "00000-digits-cond"


class MeanColour(nn.Module):
    """Stands in for the TorchScript networks: their keywords, three features."""

    def forward(self, x: Tensor, return_features: bool = False, no_output_bias: bool = False) -> Tensor:
        pooled = x.float().mean(dim=3)[:, 0]  # [N, H]
        return pooled if return_features else pooled.softmax(1)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "network.pt"
    torch.jit.script(MeanColour()).save(str(path))
    return path


def test_a_run_is_measured_against_its_data_without_any_weights(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "values.json"
    assert gankern("evaluate", run_dir, "--num-fake", 32, "--device", "cpu", "--json", file) == 0
    printed = capsys.readouterr()
    values = json.loads(file.read_text())
    assert set(values) == {"snapshot", "swd_16", "swd", "ms_ssim"}
    assert f"swd  {values['swd']:.5g}" in printed.out
    assert "generated images ############################## 32/32" in printed.err


def test_a_network_from_a_file_gives_fid_and_the_others(
    run_dir: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--metrics", "fid,kid,is,pr,dc", "--inception", network, "--vgg", network, "--cache", tmp_path / "cache"]
    file = tmp_path / "values.json"
    sizes = ["--num-fake", 40, "--num-real", 50, "--device", "cpu", "--json", file]
    assert gankern("evaluate", run_dir, *args, *sizes) == 0
    values = json.loads(file.read_text())
    assert values["fid"] > 0
    assert {"kid", "inception_score", "precision", "recall", "density", "coverage"} < set(values)
    assert len(list((tmp_path / "cache").iterdir())) == 3  # moments and features of one output, features of the other
    capsys.readouterr()
    assert gankern("evaluate", run_dir, *args, *sizes) == 0
    assert "real images" not in capsys.readouterr().err
    assert json.loads(file.read_text()) == values


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metrics", "fid"], "inception: needs inception-2015-12-05.pt or weights-inception"),
        (["--metrics", "swd,fidd"], "metrics must be of swd, ms-ssim, fid"),
        (["--data", "digits:8"], "the generator's images must be like the data's"),
        (["--num-fake", "1"], "num_fake must be at least 2"),
        (["--metrics", "ppl-wend", "--lpips", "no.pt"], "no file no.pt; needs vgg16.pt"),
    ],
)
def test_a_wrong_option_is_explained(
    run_dir: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert gankern("evaluate", run_dir, "--device", "cpu", *args) == 1
    assert message in capsys.readouterr().err


def test_training_measures_at_its_interval_and_the_report_shows_the_curve(run_dir: Path) -> None:
    measured = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [values["kimg"] for values in measured] == [0.016, 0.032]
    assert all(set(values) == {"kimg", "swd_16", "swd", "ms_ssim"} for values in measured)
    report = (run_dir / "report.html").read_text()
    assert f"<span>swd</span><b>{measured[-1]['swd']:.4g}</b><small>at 0.032 kimg</small>" in report
    for chart in ("swd", "ms_ssim"):
        assert f'font-weight="bold">{chart}</text>' in report


def test_measuring_does_not_change_the_run(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short_ticks(monkeypatch)
    assert gankern("train", *SMALL, "--outdir", tmp_path) == 0
    stats = []
    for folder in (run_dir, tmp_path / "00000-digits-cond"):
        lines = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
        stats.append([{k: v for k, v in line.items() if not k.startswith(("Timing", "Resources"))} for line in lines])
    assert stats[0] == stats[1]
    assert not (tmp_path / "00000-digits-cond" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metrics", "fid"], "--inception FILE"),
        (["--data", "digits:8"], "--metrics swd needs images of 16 pixels or more, got 8"),
    ],
)
def test_what_cannot_be_measured_stops_training_before_it_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert gankern("train", *SMALL, *args, "--metric-every", 1, "--outdir", tmp_path) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_networks_that_grow_are_measured_as_soon_as_their_images_are_large_enough(tmp_path: Path) -> None:
    class Grown(nn.Module):
        z_dim = 4

        def __init__(self, size: int) -> None:
            super().__init__()
            self.size = size
            self.scale = nn.Parameter(torch.ones([]))

        def forward(self, z: Tensor, c: Tensor) -> Tensor:
            return (z.sum(1)[:, None, None, None] * self.scale).sin().expand(-1, 1, self.size, self.size)

    data = open_data("digits:32")
    args = cli.parser().parse_args(["train", "--metric-every", "2", "--num-fake", "4"])
    state = SimpleNamespace(device=torch.device("cpu"), cur_nimg=0, grown=None, G_ema=None)
    after_tick = measuring(args, state, data)
    for tick, size in ((2, 8), (3, 16), (4, 16), (6, 32)):
        state.cur_nimg, state.grown, state.G_ema = 1000 * tick, (size, False), Grown(size)
        after_tick(tmp_path, tick)
    measured = read_metrics(tmp_path)
    assert [values["kimg"] for values in measured] == [4, 6]
    assert ["swd_32" in values for values in measured] == [False, True]


@pytest.mark.slow
def test_torchrun_measures_what_one_process_does(run_dir: Path, tmp_path: Path) -> None:
    args = ["evaluate", str(run_dir), "--num-fake", "40", "--batch", "8", "--device", "cpu", "--json"]
    assert gankern(*args, tmp_path / "one.json") == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, "-m", "gankern.models.cli", *args, str(tmp_path / "two.json")], check=True)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("one", "two"))
    assert one.pop("snapshot") == two.pop("snapshot")
    assert two == pytest.approx(one, rel=1e-6)
