"""The CUDA sources compile for every architecture, spill nothing, and need no more registers than before."""

from __future__ import annotations

import json
import re

import pytest
import registers

NVCC = registers.find_nvcc()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="nvcc is neither in $CUDA_HOME/bin nor on the path"),
]


@pytest.fixture(scope="module")
def kernels() -> list[registers.Kernel]:
    return registers.compile_all(NVCC)


def test_every_source_has_kernels_for_every_architecture(kernels):
    for source in registers.SOURCES:
        assert "#include <torch" not in source.read_text(), f"{source.name} must compile without torch"
        for arch in registers.architectures(NVCC):
            assert any(k.name.startswith(f"{source.stem}_") and k.arch == f"sm_{arch}" for k in kernels)


def test_no_kernel_uses_local_memory(kernels):
    assert [kernel for kernel in kernels if kernel.spilled or kernel.stack] == []


def test_no_kernel_needs_more_registers_than_recorded(kernels):
    recorded = json.loads(registers.TABLE.read_text())
    if recorded["nvcc"] != registers.release(NVCC):
        pytest.skip(f"the table is of nvcc {recorded['nvcc']}, this is {registers.release(NVCC)}")
    grown = []
    for arch, row in registers.most_registers(kernels).items():
        for name, count in row.items():
            allowed = recorded["registers"].get(arch, {}).get(name)
            if allowed is None or count > allowed:
                grown.append(f"{arch} {name}: {count} registers, recorded {allowed}")
    assert grown == [], "if this is meant: python tests/compile/registers.py --write"


def test_names_in_the_table_are_readable():
    for row in json.loads(registers.TABLE.read_text())["registers"].values():
        for name in row:
            assert re.fullmatch(r"\w+_kernel<[\w<>, ]+>", name)
