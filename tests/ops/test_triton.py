"""The Triton kernels without a GPU: the contract, in Triton's interpreter, on a selection of cases."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import MODULES

from gankern import dispatch

# The interpreter takes milliseconds for every program of every launch, so each op runs what differs in kind: tests ->
# cases, as pytest -k understands them. A cases_<op>.py may have a selection of its own, called INTERPRETED, and say in
# TOO_LARGE which cases it leaves out. Numerical derivatives would take thousands of launches.
SELECTION = {
    "test_equals_the_float64_reference": "fp32",
    "test_errs_at_most_twice_as_much_as_eager": "bf16",
    "test_gradients_stay_on_the_backend": "",
    "test_strides_change_nothing": "channels_last or window",
    "test_an_expanded_gradient": "over_pixels",
    "test_functorch": "",
}
OPS = [op for op in dispatch.OPS if "triton" in dispatch.ORDER[op]["cuda"]]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("op", OPS)
def test_the_contract_holds_in_tritons_interpreter(op):
    (module,) = (module for module in MODULES if module.__name__ == f"cases_{op}")
    tests = getattr(module, "INTERPRETED", SELECTION).items()
    names = sorted({case.op for case in module.CASES})
    cases = f"({' or '.join(f'{name}-' for name in names)}) and not ({getattr(module, 'TOO_LARGE', 'nothing')})"
    tests = [f"({name} and ({cases}) and ({some or 'cpu'}))" if some is not None else name for name, some in tests]
    contract = str(Path(__file__).with_name("test_contract.py"))
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--tb=short",
            "-k",
            f"triton-cpu and ({' or '.join(tests)})",
            contract,
        ],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 5
    assert "skipped" not in ran.stdout
