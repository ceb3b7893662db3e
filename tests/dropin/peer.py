"""make dropin-check PEER=path: a checkout of a published project, before and after `gankern.patch()`.

Its networks are built with its own ops and run: images, gradients of a loss, gradients of a gradient penalty. The same
with gankern patched in before its import and after it, at both levels. Each in a process of its own, from the same
weights. It passes if the results differ by rounding and no function in the project's folders of ops was called.

Known layouts: `training/networks*.py` with `torch_utils` (stylegan2-ada-pytorch, stylegan3, EG3D), and rosinality's
`model.py` beside `op` (or both in `models/stylegan2`: pSp, e4e). On the CPU, where the published ops are plain PyTorch.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VARIANTS = ("own", "patched", "patched after import", "patched, models", "patched after import, models")
LIMITS = {"float64": 1e-9, "float32": 1e-3}  # relative; the latter is what rounding grows to in a second derivative
OP_FOLDERS = ("torch_utils/ops", "op", "models/stylegan2/op")


def layouts(peer: Path) -> list[str]:
    """The modules with networks that the checkout has, by name."""
    files = ("training/networks.py", "training/networks_stylegan2.py", "training/networks_stylegan3.py")
    found = [name for name in files if (peer / name).is_file()]
    found += [name for name in ("model.py", "models/stylegan2/model.py") if (peer / name).is_file()][:1]
    return [name.removesuffix(".py").replace("/", ".") for name in found]


def build(name: str) -> tuple[torch.nn.Module, torch.nn.Module | None]:
    """G: z [2, 32] -> images, and D, where the module has one."""
    module = importlib.import_module(name)
    torch.manual_seed(0)
    if name.endswith("model"):
        G, D = module.Generator(16, 32, 2, channel_multiplier=1), module.Discriminator(16, channel_multiplier=1)
        return G.double(), D.double()
    sizes: dict[str, Any] = {"channel_base": 512, "channel_max": 32}
    if name.endswith("stylegan3"):
        sizes["num_layers"] = 6
    else:
        sizes["num_fp16_res"] = 0
    nested = {"synthesis_kwargs": sizes} if name == "training.networks" else sizes
    G = module.Generator(32, 0, 32, 32, 3, mapping_kwargs={"num_layers": 2}, **nested)
    if not hasattr(module, "Discriminator"):
        return G.eval(), None
    return G.eval(), module.Discriminator(c_dim=0, img_resolution=32, img_channels=3, **sizes).eval()


def call(name: str, G: Any, z: torch.Tensor) -> torch.Tensor:
    if name.endswith("model"):
        return G([z], randomize_noise=False)[0]
    return G(z, None) if name.endswith("stylegan3") else G(z, None, noise_mode="const")


def results(name: str, G: Any, D: Any) -> dict[str, list[torch.Tensor]]:
    """What there is to compare: images, first and second derivatives."""
    dtype = next(G.parameters()).dtype
    z = torch.randn([2, 32], generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    images = call(name, G, z)
    score = images.square().mean() if D is None else D(images, *(() if name.endswith("model") else (None,))).sum()
    weights = [*G.parameters(), *([] if D is None else D.parameters())]
    first = torch.autograd.grad(score, [z, *weights], create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(first[0].square().sum(), weights, materialize_grads=True)
    tensors = {"images": [images], "gradients": first, "second order": second}
    return {key: [t.detach() for t in values] for key, values in tensors.items()}


def without_a_build() -> None:
    """Lets the project's own ops be imported on the CPU: they need no kernels there, but ask for them."""
    if importlib.util.find_spec("pkg_resources") is None:
        version = types.ModuleType("pkg_resources")
        version.parse_version = lambda text: tuple(int(p) for p in text.split("+")[0].split(".")[:2])  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = version
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda *args, **kwargs: None


def count_calls(peer: Path, work: Callable[[], Any]) -> tuple[Any, int]:
    """What `work` returns, and how many functions in the project's own ops ran."""
    folders = tuple(str(peer / folder) + "/" for folder in OP_FOLDERS)
    calls = 0

    def profile(frame: types.FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(folders)

    sys.setprofile(profile)
    try:
        return work(), calls
    finally:
        sys.setprofile(None)


def run(peer: Path, name: str, variant: str, weights: Path) -> dict[str, Any]:
    """One variant, in this process; the first one saves the weights for the others."""
    sys.path.insert(0, str(peer))
    level = "models" if variant.endswith("models") else "ops"
    if variant != "own":
        import gankern
    if variant == "own" or "after" in variant:
        without_a_build()
    elif variant != "own":
        gankern.patch(level=level)
    G, D = build(name)
    if "after" in variant:
        gankern.patch(level=level)
    nets = torch.nn.ModuleList([G] if D is None else [G, D])
    if variant == "own":
        torch.save(nets.state_dict(), weights)
    nets.load_state_dict(torch.load(weights))
    found, calls = count_calls(peer, lambda: results(name, G, D))
    return {"results": found, "calls": calls}


def difference(actual: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest norm of a difference, over the norm of what it should be."""
    floor = 1e-6 * max(float(e.norm()) for e in expected)  # of gradients that are zero but for rounding
    return max(float((a - e).norm()) / max(float(e.norm()), floor) for a, e in zip(actual, expected, strict=True))


def compare(peer: Path, name: str) -> bool:
    """Runs every variant and prints one line each; True if all agree."""
    agree, found = True, {}
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            files = [str(Path(folder) / "weights.pt"), str(Path(folder) / "found.pt")]
            command = [sys.executable, __file__, str(peer), "--name", name, "--variant", variant, "--files", *files]
            subprocess.run(command, check=True)
            found[variant] = torch.load(files[1])
    own = found["own"]["results"]
    limit = LIMITS[str(own["images"][0].dtype).removeprefix("torch.")]
    print(f"{name}: relative differences from the project's own ops, at most {limit:g}")
    print(f"  {'variant':30s}{'calls of its ops':>18s}" + "".join(f"{key:>15s}" for key in own))
    for variant in VARIANTS:
        gaps = [difference(found[variant]["results"][key], own[key]) for key in own]
        calls = found[variant]["calls"]
        print(f"  {variant:30s}{calls:18d}" + "".join(f"{gap:15.1e}" for gap in gaps))
        agree &= all(gap <= limit for gap in gaps) and (calls > 0) == (variant == "own")
    return agree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--name", help="of one module with networks")
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--files", nargs=2, type=Path)
    options = parser.parse_args()
    peer = options.peer.resolve()
    if options.variant:
        torch.save(run(peer, options.name, options.variant, options.files[0]), options.files[1])
        return
    names = [options.name] if options.name else layouts(peer)
    if not names:
        sys.exit(f"dropin-check: {peer} has no networks in a place that is known: {__doc__}")
    sys.exit(0 if all([compare(peer, name) for name in names]) else "dropin-check: FAILED")


if __name__ == "__main__":
    main()
