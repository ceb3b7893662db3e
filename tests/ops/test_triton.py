"""The Triton kernels without a GPU: the contract, in Triton's interpreter, on a selection of cases."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# The interpreter takes milliseconds for every program of every launch, so each op runs what differs in kind. The R1
# penalty judges the second order; numerical derivatives would take thousands of launches.
SELECTION = {
    "test_equals_the_float64_reference": "fp32 or (fp64 and swish)",
    "test_errs_at_most_twice_as_much_as_eager": "bf16 and (lrelu or swish or binomial)",
    "test_an_r1_penalty": "fp64",
    "test_inputs_only": "",
    "test_gradients_stay_on_the_backend": "swish or up_2-down_2",
    "test_strides_change_nothing": "(swish or binomial-up_2) and (channels_last or window)",
    "test_an_expanded_gradient": "(swish or binomial-up_2) and over_pixels",
    "test_functorch": "tanh-clamp or binomial-up_2",
}
TOO_LARGE = "4x64x16x16 or 67x129 or 2x5x17x19 or 2x5x19x37 or 2x5x17x41 or 1x33x8x16 or 3x7x11x13"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("op", ["bias_act", "upfirdn2d"])
def test_the_contract_holds_in_tritons_interpreter(op):
    tests = " or ".join(f"({name} and ({cases}))" if cases else name for name, cases in SELECTION.items())
    other = "upfirdn2d or filter2d" if op == "bias_act" else "bias_act"
    selection = f"triton-cpu and ({tests}) and not ({TOO_LARGE}) and not ({other})"
    if op == "upfirdn2d":
        selection += " and not (test_an_r1_penalty or test_inputs_only)"  # ran with bias_act
    contract = str(Path(__file__).with_name("test_contract.py"))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short", "-k", selection, contract],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None
    assert int(passed[1]) > 30
    assert "skipped" not in ran.stdout
