"""python -m gankern.doctor: versions, backends, and one parity run of every op on every backend and device."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch

import gankern
from gankern import convolution_table, dispatch, tune
from gankern.ops.attention import self_attention2d
from gankern.ops.bias_act import bias_act
from gankern.ops.conditional_batch_norm import conditional_batch_norm
from gankern.ops.conv2d import conv2d
from gankern.ops.fade import fade
from gankern.ops.filtered_lrelu import filtered_lrelu
from gankern.ops.grid_sample import affine_grid, grid_sample
from gankern.ops.minibatch_stddev import minibatch_stddev
from gankern.ops.pixel_norm import pixel_norm
from gankern.ops.spectral_norm_batched import spectral_norm_batched
from gankern.ops.squared_norms import squared_norms
from gankern.ops.style_epilogue import style_epilogue
from gankern.ops.styled_bias_act import styled_bias_act
from gankern.ops.upfirdn2d import setup_filter, upfirdn2d
from gankern.ops.upsample_add import upsample_add
from gankern.ops.winograd import winograd
from gankern.ops.winograd_strided import winograd_strided

SHAPE = (2, 8, 9, 7)
FOLDER = Path(__file__).parent
OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 11)
BUILD = "build it anew with `pip install --no-build-isolation -e .`"


def _run_attention(x: torch.Tensor, backend: str) -> torch.Tensor:
    return self_attention2d(x, x.sin(), x, backend=backend)


def _run_bias_act(x: torch.Tensor, backend: str) -> torch.Tensor:
    b = torch.linspace(-1, 1, x.shape[1]).to(x)
    return bias_act(x, b, act="swish", clamp=2, backend=backend)


def _run_styled_bias_act(x: torch.Tensor, backend: str) -> torch.Tensor:
    n, c, h, w = x.shape
    scale, noise = torch.linspace(0.5, 2, n * c).to(x).reshape(n, c), torch.linspace(-2, 2, h * w).to(x).reshape(h, w)
    strength, b = torch.full([], 0.5).to(x), torch.linspace(-1, 1, c).to(x)
    return styled_bias_act(x, scale, noise, strength, b, act="lrelu", clamp=2, backend=backend)


def _run_conditional_batch_norm(x: torch.Tensor, backend: str) -> torch.Tensor:
    gain = torch.linspace(0.5, 1.5, x.shape[1]).to(x)
    return conditional_batch_norm(x, gain, gain - 1, act="relu", up=2, backend=backend)


def _run_fade(x: torch.Tensor, backend: str) -> torch.Tensor:
    return fade(x, x.square(), 0.3, backend=backend)


def _run_squared_norms(x: torch.Tensor, backend: str) -> torch.Tensor:
    return squared_norms(x, backend=backend)


def _run_upfirdn2d(x: torch.Tensor, backend: str) -> torch.Tensor:
    f = setup_filter([1, 3, 3, 1], device=x.device)
    return upfirdn2d(x, f, up=2, padding=[2, 1, 2, 1], gain=4, backend=backend)


def _run_conv2d(x: torch.Tensor, backend: str) -> torch.Tensor:
    weight = torch.linspace(-1, 1, 5 * x.shape[1] * 9).to(x).reshape(5, x.shape[1], 3, 3)
    return conv2d(x, weight, padding=1, act="swish", backend=backend)


def _run_pixel_norm(x: torch.Tensor, backend: str) -> torch.Tensor:
    return pixel_norm(x, eps=1, backend=backend)  # a small one makes the square of the result constant


def _run_style_epilogue(x: torch.Tensor, backend: str) -> torch.Tensor:
    noise = torch.linspace(-1, 1, x[0, 0].numel()).to(x).reshape(x.shape[2:])
    scale = torch.linspace(0.5, 2, x[:, :, 0, 0].numel()).to(x).reshape(x.shape[:2])
    return style_epilogue(x, noise, b=scale[0], scale=scale, shift=scale, eps=1, backend=backend)


def _run_minibatch_stddev(x: torch.Tensor, backend: str) -> torch.Tensor:
    x = x.reshape(8, 2, 9, 7)  # with two members the second derivative all but cancels
    return minibatch_stddev(x, group_size=4, num_channels=2, backend=backend)


def _run_spectral_norm_batched(x: torch.Tensor, backend: str) -> torch.Tensor:
    u = torch.linspace(-1, 1, x.shape[0] + 1)[1:].to(x)
    return spectral_norm_batched([x], [u], num_iters=3, backend=backend)[0]


def _run_filtered_lrelu(x: torch.Tensor, backend: str) -> torch.Tensor:
    f = setup_filter([1, 2, 4, 6, 6, 4, 2, 1], device=x.device)
    return filtered_lrelu(x, f, f, up=2, down=2, padding=[7, 6, 7, 6], backend=backend)


def _run_grid_sample(x: torch.Tensor, backend: str) -> torch.Tensor:
    theta = torch.tensor([[0.8, -0.5, 0.1], [0.4, 0.9, -0.2]]).to(x).expand(x.shape[0], 2, 3)
    return grid_sample(x, affine_grid(theta, x.shape), backend=backend)


def _run_upsample_add(x: torch.Tensor, backend: str) -> torch.Tensor:
    y = torch.linspace(-1, 1, 4 * x.numel()).to(x).reshape(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    return upsample_add(x, y, setup_filter([1, 3, 3, 1], device=x.device), backend=backend)


def _run_winograd(x: torch.Tensor, backend: str) -> torch.Tensor:
    w = torch.linspace(-1, 1, 5 * x.shape[1] * 9).sin().reshape(5, x.shape[1], 3, 3).to(x)
    return winograd(x, w, backend=backend)


def _run_winograd_strided(x: torch.Tensor, backend: str) -> torch.Tensor:
    w = torch.linspace(-1, 1, 5 * x.shape[1] * 9).sin().reshape(5, x.shape[1], 3, 3).to(x)
    return winograd_strided(x, w, backend=backend)


RUNS: dict[str, Callable[[torch.Tensor, str], torch.Tensor]] = {
    "attention": _run_attention,
    "bias_act": _run_bias_act,
    "conv2d": _run_conv2d,
    "styled_bias_act": _run_styled_bias_act,
    "conditional_batch_norm": _run_conditional_batch_norm,
    "filtered_lrelu": _run_filtered_lrelu,
    "grid_sample": _run_grid_sample,
    "pixel_norm": _run_pixel_norm,
    "style_epilogue": _run_style_epilogue,
    "minibatch_stddev": _run_minibatch_stddev,
    "spectral_norm_batched": _run_spectral_norm_batched,
    "fade": _run_fade,
    "squared_norms": _run_squared_norms,
    "upfirdn2d": _run_upfirdn2d,
    "upsample_add": _run_upsample_add,
    "winograd": _run_winograd,
    "winograd_strided": _run_winograd_strided,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what is installed and what runs; returns 0 unless something that is present is broken.

    Args:
        argv: Of the command line: `--json` prints one JSON object instead of the table; `--tune` measures which
            convolutions are faster by Winograd's algorithm on this machine, keeps that for later, and prints nothing
            else.
    """
    parser = argparse.ArgumentParser(prog="python -m gankern.doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--tune", action="store_true", help="measure this machine's convolutions (a minute)")
    options = parser.parse_args(argv)
    if options.tune:
        return _tune()
    report: dict[str, Any] = {"versions": versions(), "problems": problems(), "backends": backends()}
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(_table(report))
    return int(any(row["status"] == "broken" for row in report["backends"]))


def _tune() -> int:
    """Measures the machine's table of convolutions and writes it; 1 where there are no kernels to choose from."""
    reason = dispatch.why_not("winograd", "native", "cpu")
    if reason is not None:
        print(f"--tune: there is nothing to choose from: {reason}", file=sys.stderr)
        return 1
    about = {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), **versions()}
    speedups = tune.measure()
    path = convolution_table.save(speedups, about)
    faster = sum(value > 1 for value in speedups.values())
    print(f"{faster} of {len(speedups)} classes of convolutions go through Winograd's algorithm; written to {path}")
    return 0


def versions() -> dict[str, Any]:
    """The versions of everything involved, how the native library was built, and the GPU."""
    found: dict[str, Any] = {
        "gankern": gankern.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "triton": _triton_version(),
        "native": _build_info(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        found["gpu"] = f"{torch.cuda.get_device_name()}, sm_{major}{minor}, CUDA {torch.version.cuda}"
    return found


def problems() -> list[str]:
    """What is wrong with the set-up, one sentence each with what to do; nothing of it need stop anything."""
    found = [
        _too_old("Python", platform.python_version(), OLDEST_PYTHON),
        _too_old("PyTorch", str(torch.__version__), OLDEST_TORCH),
        _host_does_not_load(),
        _stale_library(),
        _cache_is_not_writable(),
    ]
    if not _libraries("_C"):
        found += [f"to build the kernels: {reason}" for reason in missing_to_build()]
    return [problem for problem in found if problem is not None]


def missing_to_build() -> list[str]:
    """What building the native library needs and this machine lacks."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))[0]
    missing = [] if shutil.which(compiler) else [f"there is no C++ compiler `{compiler}`; install g++ or set CXX"]
    for name in ("ninja", "pybind11", "setuptools"):
        if importlib.util.find_spec(name) is None:
            missing.append(f"the package {name} is missing; pip install {name}")
    return missing


def _too_old(name: str, version: str, oldest: tuple[int, int]) -> str | None:
    major, minor = (int(number) for number in version.split(".")[:2])
    return None if (major, minor) >= oldest else f"{name} must be {oldest[0]}.{oldest[1]} or later, it is {version}"


def _host_does_not_load() -> str | None:
    build = _build_info()
    return (
        None if build is None or "broken" not in build else f"gankern._host does not load ({build['broken']}); {BUILD}"
    )


def _stale_library() -> str | None:
    """Whether a source is newer than the library that was built from it, where there are sources."""
    sources = list((FOLDER.parent / "csrc").glob("*/*"))
    built = _libraries("_C")
    if not built or not sources:
        return None
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    if newest.stat().st_mtime <= built[0].stat().st_mtime:
        return None
    return f"{built[0].name} is older than {newest.relative_to(FOLDER.parent)}; {BUILD}"


def _cache_is_not_writable() -> str | None:
    folder = convolution_table.OWN.parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK):
        return None
    return f"the cache folder {folder} cannot be written; set XDG_CACHE_HOME to one that can"


def _libraries(stem: str) -> list[Path]:
    return sorted(FOLDER.glob(f"{stem}.*so"))


def backends() -> list[dict[str, str]]:
    """One row per op, backend and device; status is 'ok', 'missing' or 'broken', with the reason of the last two."""
    rows = []
    for op in dispatch.OPS:
        for backend in dispatch.BACKENDS:
            for device in ("cpu", "cuda"):
                status, reason = _examine(op, backend, device)
                rows.append({"op": op, "backend": backend, "device": device, "status": status, "reason": reason})
    return rows


def _examine(op: str, backend: str, device: str) -> tuple[str, str]:
    reason = dispatch.why_not(op, backend, device)
    if reason is not None:
        return ("broken" if _is_present(backend, device) else "missing"), reason
    if device == "cuda" and not torch.cuda.is_available():
        return "missing", "there is no GPU"
    try:
        error = _difference(RUNS[op], backend, device)
    except Exception as failure:  # whatever goes wrong here is the news
        return "broken", f"{type(failure).__name__}: {failure}".splitlines()[0]
    if error <= 1e-4:  # float32 against float64; a false result is wrong by tenths; NaN is not <=
        return "ok", ""
    return "broken", f"differs from the reference by {error:.1e}"


def _is_present(backend: str, device: str) -> bool:
    """Whether the native library is there: then a reason against it is a fault."""
    stem = "_C" if device == "cpu" else "_C_cuda"
    return backend == "native" and bool(_libraries(stem)) and (device == "cpu" or torch.version.cuda is not None)


def _difference(run: Callable[[torch.Tensor, str], torch.Tensor], backend: str, device: str) -> float:
    """The largest relative error of result, gradient and gradient of a gradient penalty, against the reference."""
    x = torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = _to_second_order(run, x, "eager")
    actual = _to_second_order(run, x.to(device, torch.float32), backend)
    errors = [(a.cpu().double() - e).abs().max() / e.abs().max() for a, e in zip(actual, expected, strict=True)]
    return max(errors, key=lambda error: float("inf") if error.isnan() else error.item()).item()


def _to_second_order(
    run: Callable[[torch.Tensor, str], torch.Tensor], x: torch.Tensor, backend: str
) -> tuple[torch.Tensor, ...]:
    x = x.clone().requires_grad_()
    y = run(x, backend)
    (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    (ddx,) = torch.autograd.grad(dx.square().sum(), x)
    return y.detach(), dx.detach(), ddx


def _triton_version() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("triton").__version__


def _build_info() -> dict[str, str] | None:
    if importlib.util.find_spec("gankern._host") is None:
        return None
    try:
        return importlib.import_module("gankern._host").build_info()
    except ImportError as error:
        return {"broken": str(error)}


def _table(report: dict[str, Any]) -> str:
    lines = []
    for name, value in report["versions"].items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {text}" for key, text in value.items() if text)
        lines.append(f"{name:9s} {value or 'none'}")
    lines += [f"{'problem':9s} {problem}" for problem in report["problems"]]
    wide = max(len(row["op"]) for row in report["backends"])
    lines += ["", f"{'op':{wide}s} {'backend':8s} {'device':7s} status"]
    for row in report["backends"]:
        status = row["status"] if row["status"] != "missing" else "-"
        reason = f": {row['reason']}" if row["reason"] else ""
        lines.append(f"{row['op']:{wide}s} {row['backend']:8s} {row['device']:7s} {status}{reason}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
