"""Builds the CPU kernels with the compiler's sanitizers, and runs the tests of the ops and the fuzzer on them.

    python tests/sanitizers/check.py --save bench/results/sanitizers-cpu.json

Builds lie in build/address and build/thread, beside the usual one. In the thread build the kernels' loops run on four
std::threads, for ThreadSanitizer does not see what OpenMP's library synchronises (csrc/bind/parallel_for.h).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLAGS = "-O1 -g -fno-omit-frame-pointer -fno-sanitize-recover=all"
KINDS = {
    "address": f"-fsanitize=address,undefined -fno-sanitize=vptr {FLAGS}",  # vptr needs torch's own type information
    "thread": f"-fsanitize=thread {FLAGS}",
}
PRELOADED = {"address": ("libasan.so", "libubsan.so", "libstdc++.so"), "thread": ("libtsan.so",)}
# Python frees much only by ending, which LeakSanitizer takes for leaks.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
# What is compiled or traced runs no other kernels, and takes minutes; opcheck plays with the interpreter's references.
SUITES = {
    "address": {
        "tests/ops": "native and not compile and not opcheck",
        "tests/fuzz": "agrees or stays_right or 32_bits",
        "tests/ops/test_threads.py": "native or callers or bits",
    },
    "thread": {
        "tests/ops/test_threads.py": "(native or callers) and not bits",
        "tests/ops/test_contract.py": "native and (equals_the_float64 or strides or expanded)",
        "tests/fuzz": "agrees or stays_right",
    },
}


def environment(kind: str) -> dict[str, str]:
    """Of a Python process that loads code built with the sanitizer."""
    found = [subprocess.check_output(["cc", f"-print-file-name={name}"], text=True).strip() for name in PRELOADED[kind]]
    return {**os.environ, **OPTIONS, "LD_PRELOAD": " ".join(found), "OMP_WAIT_POLICY": "PASSIVE"}


def build(kind: str) -> Path:
    """Returns the folder of the whole package with the kernels so built."""
    folder = ROOT / "build" / kind
    settings = {"CXXFLAGS": KINDS[kind], "GANKERN_BUILD": "cpu"}
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(folder)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=True)
    return folder


def run(kind: str, folder: Path, tests: str, which: str) -> dict[str, int]:
    """How many tests passed, were skipped and failed; a report of the sanitizer ends the process, uncaptured (-s)."""
    command = [sys.executable, "-P", "-m", "pytest", "-o", "addopts=--strict-markers", "-p", "no:cacheprovider"]
    command += ["-x", "-s", "--tb=short", "-m", "not slow", "-k", which, tests]
    # ThreadSanitizer would report OpenMP's own threads, of torch's loops, as they end.
    threads = "1" if kind == "thread" else "4"
    settings = {**environment(kind), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": threads}
    process = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True)
    last = process.stdout.strip().splitlines()[-1:] or [""]
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|skipped|error)", last[0])}
    if process.returncode != 0:
        print(process.stdout[-6000:], process.stderr[-12000:], flush=True)
        counts["failed"] = max(1, counts.get("failed", 0))
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--no-build", action="store_true", help="what build/ holds is what to check")
    parser.add_argument("--save", type=Path, help="writes the counts to this JSON file")
    options = parser.parse_args()
    record = {"what": "tests run with sanitizers on the CPU kernels", "processor": platform.machine(), "runs": []}
    for kind in options.kinds:
        folder = ROOT / "build" / kind if options.no_build else build(kind)
        planted = subprocess.run([sys.executable, "-m", "pytest", "-q", "-k", kind, "tests/sanitizers"], cwd=ROOT)
        if planted.returncode != 0:
            sys.exit("the sanitizer does not see planted faults, so that nothing that it says counts")
        for tests, which in SUITES[kind].items():
            counts = run(kind, folder, tests, which)
            record["runs"].append({"sanitizer": KINDS[kind].split()[0], "tests": tests, "which": which, **counts})
            print(kind, tests, counts, flush=True)
            if options.save is not None:
                options.save.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(int(any(run.get("failed") for run in record["runs"])))


if __name__ == "__main__":
    main()
