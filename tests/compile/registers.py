"""Compiles csrc/cuda/*.cu without torch and without a GPU, and reads what ptxas says about every kernel.

`python tests/compile/registers.py` prints the table, `--write` records it in registers.json for the tests.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SOURCES = sorted((Path(__file__).resolve().parents[2] / "csrc" / "cuda").glob("*.cu"))
TABLE = Path(__file__).with_suffix(".json")
ARCHITECTURES = ("80", "90", "100")

PTXAS = re.compile(
    r"Compiling entry function '(?P<symbol>\S+)' for 'sm_(?P<arch>\w+)'"
    r"(?s:.*?)(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r"(?s:.*?)Used (?P<registers>\d+) registers"
)


class Kernel(NamedTuple):
    """What one kernel needs of one architecture; local memory in bytes a thread."""

    name: str
    arch: str
    registers: int
    stack: int
    spilled: int


def find_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return shutil.which("nvcc", path=f"{home}/bin") or shutil.which("nvcc")


def release(nvcc: str) -> str:
    """ "13.0": another release may allot registers otherwise."""
    output = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"release ([\d.]+)", output)[1]


def architectures(nvcc: str) -> list[str]:
    """Those of ARCHITECTURES that this nvcc knows."""
    known = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    return [arch for arch in ARCHITECTURES if f"compute_{arch}" in known]


def compile_all(nvcc: str) -> list[Kernel]:
    """Every source for every architecture, two at a time.

    Raises:
        RuntimeError: nvcc refused, with what it said.
    """
    jobs = [(source, arch) for source in SOURCES for arch in architectures(nvcc)]
    with ThreadPoolExecutor(2) as pool:
        return [kernel for kernels in pool.map(lambda job: compile_one(nvcc, *job), jobs) for kernel in kernels]


def compile_one(nvcc: str, source: Path, arch: str) -> list[Kernel]:
    flags = ["-std=c++20", "-O3", "-Xptxas=-v", "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    command = [nvcc, *flags, "-cubin", "-o", os.devnull, str(source)]
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{process.stdout}{process.stderr}")
    found = list(PTXAS.finditer(process.stderr + process.stdout))
    names = "\n".join(match["symbol"] for match in found)
    names = subprocess.run(["c++filt"], input=names, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        Kernel(
            name=readable(name),
            arch=f"sm_{arch}",
            registers=int(match["registers"]),
            stack=int(match["stack"]),
            spilled=int(match["stores"]) + int(match["loads"]),
        )
        for name, match in zip(names, found, strict=True)
    ]


def readable(name: str) -> str:
    """`bias_act_rows_kernel<Forward<float>>`: without namespaces, parameters and activations."""
    name = name.replace("(anonymous namespace)::", "").replace("gankern::", "").replace("cuda::", "")
    name = re.sub(r"\(Activation\)\d+, ", "", name.removeprefix("void "))
    name = re.sub(r"\((int|bool)\)", "", name)
    return name.split("(")[0].replace(" >", ">")


def most_registers(kernels: list[Kernel]) -> dict[str, dict[str, int]]:
    """Architecture -> kernel -> the most registers of any of its activations."""
    table: dict[str, dict[str, int]] = {}
    for kernel in sorted(kernels):
        row = table.setdefault(kernel.arch, {})
        row[kernel.name] = max(row.get(kernel.name, 0), kernel.registers)
    return table


def main() -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("registers.py: nvcc was not found, neither in $CUDA_HOME/bin nor on the path")
    table = {"nvcc": release(nvcc), "registers": most_registers(compile_all(nvcc))}
    text = json.dumps(table, indent=2) + "\n"
    if "--write" in sys.argv[1:]:
        TABLE.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
