"""The Triton kernels compile ahead of time, with the arguments of real launches, and keep everything in registers."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch

triton = pytest.importorskip("triton")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1",
        reason="TRITON_INTERPRET=1 replaces the compiler",
    ),
]

TYPES = {
    torch.float64: "fp64",
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.int64: "i64",
}
Call = Callable[[], Any]


def launches_of(module: ModuleType, call: Call) -> list[tuple[Any, dict[str, Any]]]:
    """The kernels that `call` would launch, with their arguments by name."""
    launches = []

    def stand_in(kernel: Any) -> mock.MagicMock:
        double = mock.MagicMock()
        double.__getitem__.return_value = lambda *args, **options: launches.append(
            (kernel, {**dict(zip(kernel.arg_names, args, strict=False)), **options})
        )
        return double

    kernels = {name: stand_in(value) for name, value in vars(module).items() if name.endswith("_kernel")}
    with mock.patch.multiple(module, **kernels):
        call()
    return launches


def local_memory(kernel: Any, arguments: dict[str, Any], capability: int, folder: Path) -> int:
    """Compiles one launch as Triton would specialise it; the bytes of stack and of spills of a thread."""
    signature, constants, attributes = {}, {}, {}
    for position, parameter in enumerate(kernel.params):
        name, value = parameter.name, arguments[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
            continue
        if isinstance(value, tuple):  # of tensors
            signature[name] = tuple(f"*{TYPES[t.dtype]}" for t in value)
            continue
        is_tensor = isinstance(value, torch.Tensor)
        signature[name] = f"*{TYPES[value.dtype]}" if is_tensor else parameter.annotation_type or "i32"
        if is_tensor or (isinstance(value, int) and value % 16 == 0):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    options = {name: arguments[name] for name in ("num_warps",) if name in arguments}
    binary = folder / "kernel.cubin"
    binary.write_bytes(triton.compile(source, target=target, options=options).asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(binary)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(int(re.search(rf"{kind}:(\d+)", usage)[1]) for kind in ("STACK", "LOCAL"))


# launches_<op>.py: the module of the kernels, and calls of its functions by name.
LAUNCHES = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("launches_*.py"))]
CASES: dict[str, tuple[ModuleType, Call]] = {
    f"{launches.__name__.removeprefix('launches_')}-{name}": (launches.module, call)
    for launches in LAUNCHES
    for name, call in launches.CASES.items()
}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("case", CASES)
def test_uses_no_local_memory(case, capability, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    module, call = CASES[case]
    launches = launches_of(module, call)
    assert launches
    for kernel, arguments in launches:
        assert local_memory(kernel, arguments, capability, tmp_path) == 0, kernel.__name__
