"""Any call of any op: every backend gives what the reference gives, or refuses as it does. Never a crash.

GANKERN_FUZZ sets how many calls of each op, GANKERN_FUZZ_SEED other calls than those of every run, GANKERN_FUZZ_LOG a
folder for the call that is running and for the counts. `make fuzz` runs many; see long_run.py.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from agreement import check
from calls import Call
from hypothesis import HealthCheck, given, seed, settings
from long_run import RESULTS, table
from strategies import OPS, calls, huge_calls

import gankern

NUMBER = int(os.environ.get("GANKERN_FUZZ", "60"))
SEED = os.environ.get("GANKERN_FUZZ_SEED")
LOG = os.environ.get("GANKERN_FUZZ_LOG")
KEPT = [Call.parse(line) for line in (Path(__file__).parent / "regressions.jsonl").read_text().splitlines()]
NO_OPS = {"explain", "inputs_only", "no_weight_gradients", "patch", "patched", "unpatch", "use_backend"}


def fuzz(strategy: Any, number: int, body: Any) -> None:
    def run(call: Call) -> None:
        body(call)

    test = given(strategy)(run)
    options = {"database": None, "deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": False}
    test = settings(max_examples=number, derandomize=SEED is None, **options)(test)
    (test if SEED is None else seed(int(SEED))(test))()


class Journal:
    """What is tried now, for whoever finds this process dead; and how many calls came out how."""

    def __init__(self, name: str) -> None:
        self.counts: Counter[str] = Counter()
        self.folder = None if LOG is None else Path(LOG)
        self.name = name

    def check(self, call: Call, backend: str, device: str) -> None:
        if self.folder is not None:
            (self.folder / f"{self.name}.running").write_text(call.json())
        try:
            self.counts[check(call, backend, device)] += 1
        except AssertionError as error:
            if self.folder is not None:  # the last one that fails is the smallest
                (self.folder / f"{self.name}.failed").write_text(call.json())
            raise AssertionError(f"{error}\n{call.json()}") from error

    def close(self) -> None:
        if self.folder is not None:
            (self.folder / f"{self.name}.json").write_text(json.dumps(self.counts))
            (self.folder / f"{self.name}.running").unlink(missing_ok=True)


def test_every_public_op_is_fuzzed():
    assert set(OPS) == set(gankern.__all__) - NO_OPS


def test_the_table_of_the_docs_is_that_of_the_results():
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    assert table(RESULTS) in text


@pytest.mark.kernels
@pytest.mark.parametrize("op", OPS)
def test_any_call_agrees_with_the_reference(op, backend, device):
    journal = Journal(op)
    number = max(1, NUMBER // 20) if (backend, device) == ("triton", "cpu") else NUMBER  # the interpreter is slow
    try:
        fuzz(calls(op), number, lambda call: journal.check(call, backend, device))
    finally:
        journal.close()


@pytest.mark.kernels
@pytest.mark.parametrize("op", OPS)
def test_shapes_beyond_32_bits_follow_the_same_rule(op, backend, device):
    journal = Journal(f"{op}-huge")
    try:
        fuzz(huge_calls(op), max(1, NUMBER // 10), lambda call: journal.check(call, backend, device))
    finally:
        journal.close()


@pytest.mark.kernels
@pytest.mark.parametrize("call", KEPT, ids=[f"{i}-{call.op}" for i, call in enumerate(KEPT)])
def test_what_was_once_wrong_stays_right(call, backend, device):
    check(call, backend, device)
