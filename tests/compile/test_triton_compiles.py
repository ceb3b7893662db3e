"""The Triton kernels compile ahead of time, with the arguments of real launches, and keep everything in registers."""

from __future__ import annotations

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
bias_act = pytest.importorskip("gankern.triton.bias_act")
upfirdn2d = pytest.importorskip("gankern.triton.upfirdn2d")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1",
        reason="TRITON_INTERPRET=1 replaces the compiler",
    ),
]

ACTIVATIONS = ("linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish")
TYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
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
        is_tensor = isinstance(value, torch.Tensor)
        signature[name] = f"*{TYPES[value.dtype]}" if is_tensor else parameter.annotation_type or "i32"
        if is_tensor or (isinstance(value, int) and value % 16 == 0):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = triton.compiler.ASTSource(kernel, signature, constants, attributes)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    binary = folder / "kernel.cubin"
    binary.write_bytes(triton.compile(source, target=target).asm["cubin"])
    command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(binary)]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(int(re.search(rf"{kind}:(\d+)", usage)[1]) for kind in ("STACK", "LOCAL"))


def _bias_act(dtype: torch.dtype, layout: str, act: str, clamp: float | None, bias: bool = True) -> Call:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        b = torch.zeros([32]) if bias else None
        bias_act.bias_act(x, b, 1, act, 0.2, 1.4, clamp)
        ref = None if act == "linear" and clamp is None else x
        bias_act.bias_act_backward(x, ref, b, 1, act, 0.2, 1.4, clamp, bias)

    return call


def _upfirdn2d(dtype: torch.dtype, layout: str, taps: list[int], up: int, down: int) -> Call:
    def call() -> None:
        x = torch.zeros([2, 32, 48, 64], dtype=dtype).contiguous(memory_format=LAYOUTS[layout])
        pad = taps[-1] // 2
        upfirdn2d.upfirdn2d(x, torch.zeros(taps), up, up, down, down, pad, pad, pad, pad, False, 4.0)

    return call


CASES: dict[str, tuple[ModuleType, Call]] = {
    **{f"{act}-bf16": (bias_act, _bias_act(torch.bfloat16, "contiguous", act, 1.0)) for act in ACTIVATIONS},
    **{f"{act}-fp64": (bias_act, _bias_act(torch.float64, "channels_last", act, 1.0)) for act in ("softplus", "swish")},
    "lrelu-fp16-channels_last": (bias_act, _bias_act(torch.float16, "channels_last", "lrelu", None)),
    "swish-fp32-channels_last": (bias_act, _bias_act(torch.float32, "channels_last", "swish", None)),
    "linear-fp32-no_bias": (bias_act, _bias_act(torch.float32, "contiguous", "linear", None, bias=False)),
    **{
        f"{taps}-up{up}-down{down}-bf16-{layout}": (upfirdn2d, _upfirdn2d(torch.bfloat16, layout, taps, up, down))
        for taps, up, down in (([4, 4], 1, 1), ([4, 4], 2, 1), ([4, 4], 1, 2), ([12], 2, 1))
        for layout in LAYOUTS
    },
    "[24]-up4-down2-fp32": (upfirdn2d, _upfirdn2d(torch.float32, "contiguous", [24], 4, 2)),
    "[12, 12]-up1-down2-fp64": (upfirdn2d, _upfirdn2d(torch.float64, "contiguous", [12, 12], 1, 2)),
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
