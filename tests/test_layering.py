"""The architecture as a test: who may import whom, how large a file may be, what it may be called."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest

from gankern import dispatch

ROOT = Path(__file__).resolve().parents[1]
CODE = ("gankern", "models", "tests", "bench", "csrc")
PYTHON = sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))
NATIVE = sorted(path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh"))
LIBRARY = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in ("gankern", "models")]

# Folder -> what its files may import beside Python's own modules. The longest matching prefix counts.
MAY_IMPORT = {
    "gankern/reference": ("torch", "gankern.reference"),
    "gankern/triton": ("torch", "triton", "gankern.triton"),
    "gankern/ops": (
        "torch",
        "gankern.ops",
        "gankern.reference",
        "gankern.triton",
        "gankern.library",
        "gankern.dispatch",
        "gankern.checks",
        "gankern.convolution",
    ),
    "gankern/nn": ("torch", "gankern.nn", "gankern.ops", "gankern.checks"),
    "gankern/dropin": (
        "torch",
        "numpy",
        "gankern",
        "gankern.dropin",
        "gankern.ops",
        "gankern.reference",
        "gankern.dispatch",
    ),
    "gankern/run.py": (),
    "gankern/library.py": ("torch",),
    "gankern/dispatch.py": ("torch",),
    "gankern/convolution.py": ("torch", "gankern.convolution_table", "gankern.dispatch"),
    "gankern/convolution_table.py": ("torch",),
    "gankern/tune.py": ("torch", "gankern.convolution", "gankern.convolution_table"),
    "gankern/checks.py": ("torch",),
    "gankern/doctor.py": (
        "torch",
        "triton",
        "numpy",
        "gankern",
        "gankern.ops",
        "gankern.dispatch",
        "gankern.convolution_table",
        "gankern.tune",
    ),
    "gankern/__init__.py": ("gankern.ops", "gankern.dropin", "gankern.dispatch", "gankern.library"),
}
MODELS_NEVER_IMPORT = ("gankern.reference", "gankern.triton", "gankern.dispatch", "gankern.library", "tests", "bench")

# One stem per op, in every layer; the kernels where dispatch.ORDER says that there are some.
PLACES = ("gankern/ops/{}.py", "gankern/reference/{}.py", "bench/ops/{}.py", "tests/ops/test_{}.py")
KERNELS = {
    ("native", "cpu"): ("csrc/cpu/{}.cpp", "csrc/bind/{}.cpp"),
    ("native", "cuda"): ("csrc/cuda/{}.cu", "csrc/bind/{}.cpp"),
    ("triton", "cuda"): ("gankern/triton/{}.py",),
}

LONGEST = 400
LONGER = {
    "models/resnet.py": "the blocks and both networks that four papers share",
    "models/stylegan.py": "one paper, one file",
    "models/stylegan2.py": "one paper, one file",
    "tests/models/test_biggan.py": "mirrors models/biggan.py, and models/resnet.py below it",
    "tests/models/test_progan.py": "mirrors models/progan.py",
    "tests/models/test_stylegan.py": "mirrors models/stylegan.py",
    "tests/models/test_stylegan2.py": "mirrors models/stylegan2.py",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> list[str]:
    """Every imported module; `from a import b` counts as a.b where that is one of our modules, else as a."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = list(path.relative_to(ROOT).parent.parts)
            parent = ["gankern", *parent] if parent[:1] == ["models"] else parent  # installed as gankern.models
            base = parent[: len(parent) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{module}.{alias.name}"
                found.append(name if is_module(name) else module)
    return [name for name in found if name.split(".")[0] not in sys.stdlib_module_names]


def is_module(name: str) -> bool:
    path = ROOT / name.replace("gankern.models", "models").replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """`gankern` is the package itself, any other name also what is in it."""
    return any(name == prefix or (prefix != "gankern" and name.startswith(f"{prefix}.")) for prefix in prefixes)


def test_there_is_something_to_check():
    assert len(LIBRARY) > 20
    assert len(NATIVE) > 8
    assert imports(ROOT / "gankern/ops/bias_act.py").count("gankern.reference.bias_act") == 2


@pytest.mark.parametrize("path", [p for p in LIBRARY if relative(p).startswith("gankern/")], ids=relative)
def test_a_layer_imports_only_the_layers_below_it(path):
    prefixes = [prefix for prefix in MAY_IMPORT if relative(path).startswith(prefix)]
    assert prefixes, f"{relative(path)} belongs to no layer: give it a row in MAY_IMPORT"
    allowed = MAY_IMPORT[max(prefixes, key=len)]
    assert [name for name in imports(path) if not within(name, allowed)] == []


@pytest.mark.parametrize("path", [p for p in LIBRARY if relative(p).startswith("models/")], ids=relative)
def test_models_use_the_public_library_and_name_no_backend(path):
    names = imports(path)
    assert [name for name in names if within(name, MODELS_NEVER_IMPORT)] == []
    strings = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    assert [value for value in strings if isinstance(value, str) and value in ("native", "triton")] == []
    if relative(path).startswith(("models/training/", "models/metrics/")):
        papers = tuple(f"gankern.models.{p.stem}" for p in (ROOT / "models").glob("*gan*.py"))
        assert [name for name in names if within(name, papers)] == [], "it receives G and D"


@pytest.mark.parametrize("path", LIBRARY, ids=relative)
def test_errors_are_raised_not_asserted(path):
    """An assert is gone under python -O and says nothing to whom it stops."""
    lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]
    assert lines == []


@pytest.mark.parametrize("path", [*PYTHON, *NATIVE, ROOT / "setup.py"], ids=relative)
def test_a_file_can_be_read_in_one_sitting(path):
    length = len(path.read_text().splitlines())
    if relative(path) in LONGER:
        assert length > LONGEST, f"{relative(path)} needs no exception any more"
    else:
        assert length <= (90 if path.name == "setup.py" else LONGEST)


def test_nothing_is_called_utils():
    words = {"utils", "util", "helpers", "helper", "misc", "common"}
    named = [
        relative(path) for folder in CODE for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts
    ]
    assert [name for name in named if words & set(re.split(r"[/._]", name))] == []


@pytest.mark.parametrize("op", dispatch.OPS)
def test_an_op_has_its_file_in_every_layer(op):
    places = [*PLACES, "tests/ops/cases_{}.py"]
    for (backend, device), files in KERNELS.items():
        has_its_own = backend in dispatch.ORDER[op][device] and (op, device) not in dispatch.COMPOSED
        places += files if has_its_own else ()
    assert [place.format(op) for place in places if not (ROOT / place.format(op)).is_file()] == []


@pytest.mark.parametrize("folder", ["csrc/cpu", "csrc/cuda", "gankern/triton"])
def test_every_file_with_kernels_belongs_to_an_op(folder):
    stems = {path.stem for path in (ROOT / folder).glob("*.*") if path.suffix in (".py", ".cpp", ".cu")}
    assert stems - {"__init__", "simd"} <= set(dispatch.OPS)


def test_every_op_has_a_reference_and_a_test_and_the_reverse():
    stems = {folder: {p.stem for p in (ROOT / folder).glob("*.py")} for folder in ("gankern/ops", "gankern/reference")}
    assert stems["gankern/ops"] == stems["gankern/reference"]
    tests = {path.stem for path in (ROOT / "tests/ops").glob("test_*.py")}
    assert {f"test_{stem}" for stem in stems["gankern/ops"] - {"__init__"}} <= tests


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", NATIVE, ids=relative)
def test_kernels_know_nothing_of_torch_and_formulas_nothing_of_devices(path):
    folder = path.parent.name
    names = includes(path)
    torch_headers = [name for name in names if re.match(r"(torch|ATen|c10|pybind11|Python)\b", name)]
    forbidden = {"math": ("cpu/", "cuda/", "bind/"), "cpu": ("cuda/", "bind/"), "cuda": ("cpu/", "bind/"), "bind": ()}
    assert [name for name in names for part in forbidden[folder] if part in name] == []
    if folder != "bind":
        assert [name for name in torch_headers if not (folder == "cpu" and name == "ATen/Parallel.h")] == []


def test_nothing_imports_the_tests_or_the_benchmarks():
    importers = [(relative(path), name) for path in LIBRARY for name in imports(path)]
    assert [pair for pair in importers if within(pair[1], ("tests", "bench"))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("*/*.py")), ids=relative)
def test_every_benchmark_can_be_imported(path):
    importlib.import_module(relative(path).removesuffix(".py").replace("/", "."))
