"""GANKERN_PATCH=1 and `python -m gankern.run`: a program runs on gankern without an edit, and so do its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import standins

from gankern import run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
STATE = "import sys; print(*(name in sys.modules for name in ('torch', 'gankern')), len(sys.meta_path))"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """An environment in which gankern is installed: its packages are this one's, its start-up file is a copy."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "base.pth").write_text("\n".join([str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]))
    (site / "gankern.pth").write_text((ROOT / "gankern/dropin/gankern.pth").read_text())
    return folder / "bin/python"


def start(python: Path, *arguments: str, folder: Path = ROOT, patch: str | None = None) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if name != "GANKERN_PATCH"}
    environment |= {} if patch is None else {"GANKERN_PATCH": patch}
    command = [str(python), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_nothing_heavy_is_imported_before_a_gan_project_is(python):
    unset, zero, one = (start(python, "-c", STATE, patch=value) for value in (None, "0", "1"))
    assert unset.stdout == zero.stdout
    finders = int(unset.stdout.split()[2])
    assert unset.stdout == f"False False {finders}\n"
    assert one.stdout == f"False False {finders + 1}\n"
    assert unset.stderr == zero.stderr == one.stderr == ""


def test_a_value_that_means_nothing_is_an_error(python):
    assert "GANKERN_PATCH must be one of 1, ops, models or 0, got 'yes'" in start(python, "-c", "", patch="yes").stderr


def test_a_training_script_runs_unedited_in_the_parent_and_in_a_spawned_child(python, tmp_path):
    folder = standins.nvlabs(tmp_path, broken=True)
    assert "pkg_resources" in start(python, "-c", "import torch_utils.ops.bias_act", folder=folder).stderr
    ran = start(python, "-m", "gankern.run", "train.py", "--batch", "4", folder=folder, patch="models")
    assert ran.returncode == 0, ran.stderr
    child, parent, arguments = ran.stdout.splitlines()
    assert child.split("|")[:3] == ["child", "Supplied by gankern.patch().", "0"]
    assert parent.split("|")[1:] == child.split("|")[1:]
    assert arguments == "['--batch', '4']"


def test_a_worker_of_torchrun_is_patched(python, tmp_path):
    folder = standins.nvlabs(tmp_path, broken=True)
    worker = "import torch_utils.ops.fma as fma, training.networks as n, os\nprint(fma.__doc__, os.environ['RANK'])\n"
    (folder / "worker.py").write_text(worker + "print(n.modulated_conv2d.__module__)\n")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "worker.py")
    ran = start(python, *launcher, folder=folder, patch="1")
    assert ran.stdout == "Supplied by gankern.patch(). 0\ntorch_utils.misc\n", ran.stderr


def test_a_file_of_networks_that_is_imported_first_is_patched_too(python, tmp_path):
    folder = standins.nvlabs(tmp_path, broken=True)
    code = "import training.networks as n; print(n.modulated_conv2d.__module__)"
    assert start(python, "-c", code, folder=folder, patch="models").stdout == "gankern.dropin.networks\n"


def test_run_says_what_it_lacks(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=r"usage: python -m gankern\.run"):
        run.main([])
    monkeypatch.setattr(run.site, "getsitepackages", lambda: [str(tmp_path)])
    monkeypatch.setattr(run.site, "getusersitepackages", lambda: str(tmp_path))
    with pytest.raises(SystemExit, match=r"gankern\.pth is not in site-packages"):
        run.main(["train.py"])
