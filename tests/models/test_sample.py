"""`gankern sample` from a generator without styles."""

from pathlib import Path

import pytest
import torch

from gankern.models import cli
from gankern.models.sample import latent
from gankern.models.training.png import read_png


class WithoutStyles(torch.nn.Module):
    z_dim = 500


class WithStyles(WithoutStyles):
    def mapping(self) -> None: ...


def test_latents_are_truncated_where_there_are_no_styles_to_truncate() -> None:
    whole = torch.randn(1, 500, generator=torch.Generator().manual_seed(3))
    assert torch.equal(latent(WithoutStyles(), 3, 1.0), whole)
    assert torch.equal(latent(WithStyles(), 3, 0.5), whole)
    z = latent(WithoutStyles(), 3, 0.5)
    assert 0.8 < z.abs().max() <= 1
    assert torch.equal(latent(WithoutStyles(), 3, 0.5), z)


def test_a_biggan_trains_and_is_sampled_with_and_without_truncation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--data", "digits:8", "--device", "cpu", "--kimg", "0.032", "--batch", "8", "--batch-gpu", "4"]
    assert cli.main(["train", "--cfg", "biggan-digits", "--outdir", str(tmp_path), *small]) == 0
    (run_dir,) = tmp_path.iterdir()
    assert "class accuracy" in capsys.readouterr().out
    grids = []
    for trunc in ("1", "0.4"):
        out = tmp_path / trunc
        assert cli.main(["sample", str(run_dir), "--seeds", "0-1", "--trunc", trunc, "--outdir", str(out)]) == 0
        grids.append(read_png(out / "grid.png"))
    assert grids[0].shape == grids[1].shape
    assert (grids[0] != grids[1]).any()
