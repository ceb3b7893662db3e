"""Every instruction set that this processor can run gives the same answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from case import DTYPES
from cases import CASES

import gankern

SIMD_SCRIPT = """
import sys, torch
from case import DTYPES
from cases import CASES
results = {}
for case in CASES:
    for name, dtype in DTYPES.items():
        results[case.id, name] = case.run_with_gradients(case.arguments(dtype), "native")
torch.save({"level": __import__("gankern._host")._host.build_info()["simd"], "results": results}, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(
    gankern.dispatch.why_not("bias_act", "native", "cpu") is not None, reason="the native library is not built"
)
@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_every_instruction_set_gives_the_same_answers(level, tmp_path):
    environment = {**os.environ, "GANKERN_SIMD": level}
    command = [sys.executable, "-c", SIMD_SCRIPT, str(tmp_path / "results.pt")]
    subprocess.run(command, env=environment, cwd=Path(__file__).parent, check=True)
    other = torch.load(tmp_path / "results.pt")
    if other["level"] != level:
        pytest.skip(f"this processor cannot run {level}")
    # Fused multiply-adds round once less; one unit in the last place of the largest value, two in float32.
    for case in CASES:
        for dtype in DTYPES:
            here = case.run_with_gradients(case.arguments(DTYPES[dtype]), "native")
            # A gradient may be the small rest of a difference: the largest value of the case is the measure.
            scale = max((value.abs().max().item() for value in here.values() if value.numel()), default=0.0)
            for name, value in other["results"][case.id, dtype].items():
                eps = torch.finfo(value.dtype).eps
                bound = {"rtol": 4 * eps, "atol": 16 * eps * scale}
                what = f"{case.id} {dtype} {name}"
                torch.testing.assert_close(value, here[name], **bound, msg=lambda text, what=what: f"{what}: {text}")
