"""The README's tables and the pictures."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.report import ROOT, iterations, with_tables


def figure(variant: str, ms: float) -> dict[str, Any]:
    return {"resolution": 64, "variant": variant, "ms": {"iteration": ms}, "peak_mb": 1500.0}


REPORT = {
    "figures": [
        figure("eager fp32 NCHW", 300.0),
        figure("eager fp32 channels_last", 200.0),
        figure("eager-published fp32 NCHW", 176.0),
        figure("eager bf16 NCHW", 160.0),
        figure("gankern fp32 NCHW", 100.0),
        figure("gankern fp32 channels_last", 80.0),
        figure("gankern bf16 NCHW", 50.0),
    ]
}


def test_the_readme_says_what_the_files_say() -> None:
    text = (ROOT / "README.md").read_text()
    assert with_tables(text) == text


def test_speeds_are_those_of_the_fastest_plain_pytorch_and_the_faster_layouts() -> None:
    last = iterations({"biggan-cpu.json": REPORT}).splitlines()[-1]
    assert last == "| BigGAN | 64 | 176 ms | 2.20x | 3.52x | 1.10x | 1.5 / 1.5 GB |"


def test_what_stands_between_marks_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    (tmp_path / "stylegan-cpu.json").write_text(json.dumps(REPORT))
    page = "a\n<!-- bench: iterations stylegan-cpu.json -->\nold\n<!-- /bench -->\nb\n"
    first = with_tables(page)
    assert "old" not in first
    assert "| StyleGAN | 64 |" in first
    assert first.startswith("a\n<!-- bench")
    assert first.endswith("<!-- /bench -->\nb\n")
    assert with_tables(first) == first


@pytest.mark.parametrize(
    ("mark", "message"),
    [("speeds x.json", "one of iterations, ops, got speeds"), ("ops x.json", "files in bench/results/, got x.json")],
)
def test_a_wrong_mark_is_named(mark: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_tables(f"<!-- bench: {mark} -->\n<!-- /bench -->")
