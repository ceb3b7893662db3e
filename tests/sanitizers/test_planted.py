"""The sanitizers see planted faults from inside Python, as `make sanitize` uses them: so clean means something."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from check import KINDS, ROOT, environment

CALL = "import ctypes, sys; ctypes.CDLL(sys.argv[1])[sys.argv[2]](1000); print('came to the end')"


def call(kind: str, function: str, folder: Path) -> subprocess.CompletedProcess:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    library = folder / "planted.so"
    source = Path(__file__).parent / "planted.cpp"
    build = [compiler, "-std=c++20", "-shared", "-fPIC", *KINDS[kind].split(), str(source), "-o", str(library)]
    built = subprocess.run(build, capture_output=True, text=True)
    if built.returncode != 0:
        pytest.skip(f"the compiler has no -fsanitize={kind}: {built.stderr[-200:]}")
    return subprocess.run(
        [sys.executable, "-c", CALL, str(library), function], env=environment(kind), capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "function", "report"),
    [
        ("address", "overflow", "heap-buffer-overflow"),
        ("address", "undefined", "signed integer overflow"),
        ("thread", "race", "data race"),
    ],
)
def test_a_planted_fault_is_reported(kind, function, report, tmp_path):
    done = call(kind, function, tmp_path)
    assert done.returncode != 0
    assert report in done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_fault_nothing_is_reported(kind, tmp_path):
    done = call(kind, "clean", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "came to the end"), done.stderr


def test_the_page_says_what_was_run():
    page = (ROOT / "docs" / "reliability.md").read_text()
    for run in json.loads((ROOT / "bench" / "results" / "sanitizers-cpu.json").read_text())["runs"]:
        kinds = run["sanitizer"].partition("=")[2].replace(",", ", ")
        row = next(line for line in page.splitlines() if line.startswith(f"| {kinds} | `{run['tests']}`"))
        assert row.endswith(f"| {run['passed']} | {run.get('failed', 0)} |")
