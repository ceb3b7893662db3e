"""docs/faults.md names tests that there are, and figures that were counted."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text()
FAULTS = PAGE.partition("## Faults")[2].partition("The policy")[0]


def test_every_fault_has_a_test_that_there_is():
    rows = [line for line in FAULTS.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        assert set(named) <= defined, row


def test_the_counted_table_is_the_committed_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "models" / "training"))
    sys.modules.pop("count_faults", None)
    import count_faults

    assert count_faults.table(json.loads(count_faults.RESULTS.read_text())) in PAGE
