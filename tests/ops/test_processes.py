"""Processes: a fork and a fresh process compute what their parent does, and none waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gankern import dispatch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        dispatch.why_not("bias_act", "native", "cpu") is not None, reason="the native library is not built"
    ),
]
SECONDS = 120  # a child that hangs waits for ever

# Prints the number of results; ends with an error where a child's differ from its parent's.
SCRIPT = """
import multiprocessing, os, sys, threading
import torch
from case import DTYPES
from cases import CASES
from test_threads import LARGE, large_results
import gankern

CORE = [case for case in CASES if case.core]

def compute():
    results = {case.id: case.run_with_gradients(case.arguments(torch.float32), "native") for case in CORE}
    return results | {op: large_results(op, "contiguous", torch.float32) for op in LARGE}

def same(value, expected):  # threads of torch's own loops round differently
    largest = expected.abs().max().item() if expected.numel() else 0.0
    return torch.allclose(value, expected, rtol=1e-5, atol=1e-5 * largest)

def differs(results, expected):
    return [(key, name) for key, of in results.items() for name in of if not same(of[name], expected[key][name])]

def child(path):
    expected = torch.load(path)
    wrong = differs(compute(), expected)
    print(*wrong[:5], file=sys.stderr, flush=True)
    os._exit(len(wrong) > 0)

def waited(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

if __name__ == "__main__":
    way, path = sys.argv[1:]
    torch.set_num_threads(2)
    if way == "fresh fork":  # nothing has been computed in the parent, which computes after it
        pid = os.fork()
        if pid == 0:
            torch.save(compute(), path)
            os._exit(0)
        assert waited(pid) == 0
        wrong = differs(compute(), torch.load(path))
        sys.exit(str(wrong) if wrong else 0)
    torch.save(compute(), path)
    if way == "spawn":
        process = multiprocessing.get_context("spawn").Process(target=child, args=(path,))
        process.start()
        process.join()
        sys.exit(process.exitcode)
    if way == "fork under threads":  # which keep torch's allocator and the kernels' memory busy
        stop = threading.Event()
        def work():
            while not stop.is_set():
                gankern.winograd(torch.randn(1, 64, 8, 8), torch.randn(64, 64, 3, 3))
        workers = [threading.Thread(target=work) for _ in range(3)]
        for worker in workers:
            worker.start()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            child(path)
        pids.append(pid)
    codes = [waited(pid) for pid in pids]
    if way == "fork under threads":
        stop.set()
    sys.exit(max(codes))
"""


@pytest.mark.parametrize("way", ["fork", "fresh fork", "fork under threads", "spawn"])
def test_a_child_computes_what_its_parent_does(way, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, *(["-P"] if sys.flags.safe_path else []), str(script), way, str(tmp_path / "results.pt")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
