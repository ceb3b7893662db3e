"""What is shipped, and what importing it needs: wheel, sdist, no native library, no Triton."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "build", "dist", "runs", "*.so", "__pycache__", "*.egg-info", "tests", "bench", "docs"
)


def python(code: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Runs code in a new process whose current folder is first on the path."""
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)


def output(ran: subprocess.CompletedProcess) -> str:
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the sources, as a fresh checkout has them: building leaves nothing behind in this one."""
    folder = tmp_path_factory.mktemp("checkout") / "gankern"
    shutil.copytree(ROOT, folder, ignore=NOT_SOURCE)
    return folder


@pytest.fixture
def without_native(tmp_path) -> Path:
    """A folder with the package `gankern` (and `gankern.models`) as they are before anything is built."""
    shutil.copytree(ROOT / "gankern", tmp_path / "gankern", ignore=NOT_SOURCE)
    shutil.copytree(ROOT / "models", tmp_path / "gankern" / "models", ignore=NOT_SOURCE)
    return tmp_path


def modules(folder: str, package: str) -> set[str]:
    return {f"{package}/{path.relative_to(ROOT / folder).as_posix()}" for path in (ROOT / folder).rglob("*.py")}


def test_the_wheel_holds_the_library_the_models_and_the_kernels(source, tmp_path):
    flags = {"GANKERN_BUILD": "cpu", "CXXFLAGS": "-O0", "MAX_JOBS": "2"}  # contents count here, not speed
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "-w",
        str(tmp_path),
        ".",
    ]
    ran = subprocess.run(command, cwd=source, env={**os.environ, **flags}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    (wheel,) = tmp_path.glob("gankern-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert modules("gankern", "gankern") | modules("models", "gankern/models") <= names
    assert {"gankern/models/training/digits.npz", "gankern/models/explore.html"} <= names
    assert "gankern/models/training/DIGITS.md" in names, "the attribution goes with the data"
    assert "gankern/models/training/report_template.html" in names
    for stem in ("_C.", "_host."):
        assert [n for n in names if n.startswith(f"gankern/{stem}") and n.endswith(".so")], stem
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"gankern", "gankern.pth"}

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = """
import gankern, gankern.models, torch

print(gankern.__file__); print(gankern.explain("bias_act"))
x = torch.randn([2, 3, 5, 5], requires_grad=True)
torch.autograd.grad(gankern.bias_act(x, act="lrelu", backend="native").sum(), x)
"""
    printed = output(python(code, tmp_path / "site"))
    assert printed.startswith(str(tmp_path / "site"))
    assert "native  <- runs" in printed


def test_an_editable_install_reads_the_start_up_file_too(source, tmp_path):
    """After the wheel, whose compiled objects it finds again."""
    code = f"import setuptools.build_meta as b; print(b.build_editable({str(tmp_path)!r}))"
    output(python(code, source, GANKERN_BUILD="cpu", CXXFLAGS="-O0", MAX_JOBS="2"))
    (wheel,) = tmp_path.glob("gankern-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("gankern.pth") == (ROOT / "gankern/dropin/gankern.pth").read_bytes()


def test_the_sdist_holds_what_a_build_needs(source, tmp_path):
    code = f"import setuptools.build_meta as b; print(b.build_sdist({str(tmp_path)!r}))"
    output(python(code, source, GANKERN_BUILD="cpu"))
    (sdist,) = tmp_path.glob("gankern-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    native = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    needed = native | {
        "gankern/dropin/gankern.pth",
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "models/training/digits.npz",
        "models/explore.html",
        "models/training/report_template.html",
    }
    assert needed - names == set()


ONLY_TORCH_AND_NUMPY = """
import importlib.abc, importlib.util, sys, time
import numpy, torch, torch.library
own = {"gankern", "torch", "numpy", "torchgen", "sympy", "mpmath", "networkx", "typing_extensions", "functorch"}

class Nothing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in own | sys.stdlib_module_names:
            return importlib.util.spec_from_loader(name, self)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} is not to be needed")

sys.meta_path.insert(0, Nothing())
start = time.perf_counter()
import gankern
print(time.perf_counter() - start)
gankern.bias_act(torch.ones([2, 2]), act="lrelu")
"""


def test_importing_needs_torch_and_numpy_only_and_adds_a_tenth_of_a_second(tmp_path):
    bytecode = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}  # as an installed package has it
    seconds = []
    for _ in range(4):  # the first compiles; the best of three: the machine may be busy
        seconds.append(float(output(python(ONLY_TORCH_AND_NUMPY, **bytecode))))
        if seconds[-1] < 0.1:
            return
    assert min(seconds) < 0.1


def test_without_the_native_library_eager_runs_and_native_says_how_to_build(without_native):
    code = """
import gankern, gankern.models, torch
print(gankern.__file__)
print(gankern.explain("bias_act"))
print(gankern.bias_act(torch.tensor([[-1.0, 2.0]]), act="relu", gain=1).tolist())
try:
    gankern.bias_act(torch.ones([2, 2]), act="relu", backend="native")
except RuntimeError as error:
    print(error)
"""
    printed = output(python(code, without_native))
    assert printed.startswith(str(without_native))
    assert "eager   <- runs" in printed
    assert "[[0.0, 2.0]]" in printed
    assert "the native library is not built; build it with `pip install" in printed


def test_a_native_library_that_does_not_load_is_loud(without_native):
    (without_native / "gankern" / "_C.broken.so").write_bytes(b"no library")
    ran = python("import gankern; print(gankern.explain('upfirdn2d'))", without_native)
    assert "eager   <- runs" in output(ran)
    assert "_C.broken.so does not load" in ran.stderr
    assert python("from gankern.doctor import main; raise SystemExit(main([]))", without_native).returncode == 1


def test_without_triton_everything_else_works():
    code = """
import sys
sys.modules["triton"] = None
import gankern, torch
print(gankern.explain("bias_act"))
gankern.bias_act(torch.ones([2, 2]), act="lrelu")
"""
    assert "triton  Triton is not installed; pip install triton" in output(python(code))


def test_models_cannot_be_imported_under_a_second_name():
    ran = python("import models")
    assert ran.returncode != 0
    assert "ImportError: this folder is the package gankern.models: write `import gankern.models`" in ran.stderr
