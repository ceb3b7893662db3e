"""NVIDIA's TensorFlow pickles of ProGAN, StyleGAN and StyleGAN2, as files that these tests write in that format."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gankern.models import cli, convert
from tests.models.convert import published_stylegan2 as stylegan2
from tests.models.convert import published_tensorflow as published

State = dict[str, torch.Tensor]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


class Network:
    """As the published class pickles itself."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        return self.state


def network(variables: State, version: int = 4, lod: float | None = None, **static_kwargs: Any) -> Network:
    """The variables of a network, those of `mapping/` and `synthesis/` in parts of their own."""
    own = [(key, np.asarray(value.numpy())) for key, value in variables.items()]
    parts = {}
    for part in ("mapping", "synthesis"):
        inside = {key.removeprefix(f"{part}/"): value for key, value in variables.items() if key.startswith(f"{part}/")}
        if inside:
            parts[part] = network(inside, version, lod if part == "synthesis" else None)
            own = [(key, value) for key, value in own if not key.startswith(f"{part}/")]
    if lod is not None:
        own.append(("lod", np.float32(lod)))
    return Network(
        {
            "version": version,
            "name": "G",
            "static_kwargs": static_kwargs,
            "components": parts,
            "build_module_src": "import os; os.system('touch canary')",
            "build_func_name": "G_main",
            "variables": own,
        }
    )


def write(path: Path, content: Any, module: str = "dnnlib.tflib.network", protocol: int = 4) -> None:
    """Pickles with the published class at hand, and takes it away again."""
    names = [module[:i] for i, letter in enumerate(module + ".") if letter == "."]
    made = {name: types.ModuleType(name) for name in names}
    made[module].Network = Network  # type: ignore[attr-defined]
    home = Network.__module__
    Network.__module__ = module
    sys.modules.update(made)
    try:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    finally:
        Network.__module__ = home
        for name in names:
            del sys.modules[name]


def random_variables(shapes: dict[str, list[int]], seed: int) -> State:
    random = torch.Generator().manual_seed(seed)
    found = {key: torch.randn(shape, generator=random) for key, shape in shapes.items()}
    return {key: value * 100 if "mapping/Dense" in key else value for key, value in found.items()}


def inputs(c_dim: int, n: int = 4, size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(7)
    c = torch.eye(c_dim)[torch.arange(n) % c_dim] if c_dim else torch.zeros(n, 0)
    return torch.randn(n, 6, generator=random), c, torch.randn(n, 3, size, size, generator=random)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_progan_gives_the_published_numbers(tmp_path: Path, fused: bool, c_dim: int, protocol: int) -> None:
    G, D = published.progan_shapes(16, c_dim, fused=fused)
    G, D, G_ema = random_variables(G, 1), random_variables(D, 2), random_variables(G, 3)
    group = 4 if fused else 2
    nets = network(G, 2), network(D, 2, mbstd_group_size=group), network(G_ema, 2, 0.0, fused_scale=fused)
    write(tmp_path / "a.pkl", nets, "tfutil", protocol)
    found = convert.load(tmp_path / "a.pkl")
    assert (found.family, found.source) == ("progan", "tensorflow")
    z, c, img = inputs(c_dim)
    for net, variables in ((found.G, G), (found.G_ema, G_ema)):
        torch.testing.assert_close(net(z, c), published.progan_g(variables, z, c, 16, fused), **TOLERANCE)
    expected = published.growing_d(D, img, c, 16, fused, group, blurred=False)
    torch.testing.assert_close(found.D(img), expected, **TOLERANCE)


@pytest.mark.parametrize("lod", [0.25, 1.0, 1.75, 2.0])
def test_a_network_that_was_still_growing_goes_on_where_it_was(tmp_path: Path, lod: float) -> None:
    G, D = (random_variables(shapes, 1) for shapes in published.progan_shapes(16))
    write(tmp_path / "a.pkl", tuple(network(net, 2, lod) for net in (G, D, G)), "tfutil")
    found = convert.load(tmp_path / "a.pkl", which="G_ema")
    z, c, _ = inputs(0)
    expected = published.progan_g(G, z, c, 16, True, lod)
    torch.testing.assert_close(found.G_ema(z), expected, **TOLERANCE)
    convert.save(found, tmp_path / "b.safetensors")
    again = convert.load(tmp_path / "b.safetensors")
    assert torch.equal(again.G_ema(z), found.G_ema(z))


@pytest.mark.parametrize("fused", [True, False, "auto", None])
@pytest.mark.parametrize("c_dim", [0, 3])
def test_stylegan_gives_the_published_numbers(tmp_path: Path, fused: bool | str | None, c_dim: int) -> None:
    G, D = published.stylegan_shapes(16, 3, c_dim)
    G, D, G_ema = random_variables(G, 1), random_variables(D, 2), random_variables(G, 3)
    kwargs = {} if fused is None else {"fused_scale": fused}
    nets = network(G, 3, 0.0, **kwargs), network(D, 3, 0.0, **kwargs), network(G_ema, 3, 0.0, **kwargs)
    write(tmp_path / "a.pkl", nets)
    found = convert.load(tmp_path / "a.pkl")
    assert (found.family, found.model.map_depth, found.model.c_dim) == ("stylegan", 3, c_dim)
    z, c, img = inputs(c_dim)
    for net, variables in ((found.G, G), (found.G_ema, G_ema)):
        expected = published.stylegan_g(variables, z, c, 16, 3, lambda res: fused is True, 0.7)
        torch.testing.assert_close(net(z, c, truncation_psi=0.7, noise_mode="const"), expected, **TOLERANCE)
    expected = published.growing_d(D, img, c, 16, fused is True, 4, blurred=True)
    torch.testing.assert_close(found.D(img, c), expected, **TOLERANCE)


def test_stylegan_is_fused_from_128_on(tmp_path: Path) -> None:
    G, D = (random_variables(shapes, 1) for shapes in published.stylegan_shapes(128, 2, base=256, most=4))
    write(tmp_path / "a.pkl", (network(G, 3), network(D, 3), network(G, 3)))
    found = convert.load(tmp_path / "a.pkl", which="G_ema")
    z, c, _ = inputs(0, n=2)
    expected = published.stylegan_g(G, z, c, 128, 2, lambda res: res >= 128)
    torch.testing.assert_close(found.G_ema(z, noise_mode="const"), expected, rtol=1e-3, atol=1e-3)


def to_tensorflow(state: State, is_d: bool) -> State:
    """Their names and layouts; kernels are stored as they are, which `stylegan2.generator(up=...)` is told."""
    found = {}
    for key, value in state.items():
        if key.endswith("resample_filter"):
            continue
        name = tensorflow_name(key, is_d)
        if value.ndim == 4 and key.endswith(".weight"):
            value = value.permute(2, 3, 1, 0)
        elif value.ndim == 2 and key.endswith(".weight"):
            value = value.t()
        elif key.endswith("affine.bias"):
            value = value - 1
        elif key.endswith("noise_const"):
            value = value[None, None]
        elif key.endswith("const"):
            value = value[None]
        found[name] = value.contiguous()
    return found


def tensorflow_name(key: str, is_d: bool) -> str:
    part, _, rest = key.rpartition(".")
    if key == "mapping.w_avg":
        return "dlatent_avg"
    if part.startswith("mapping."):
        inner = part.removeprefix("mapping.")
        name = "LabelEmbed" if inner == "embed" else f"{'Mapping' if is_d else 'Dense'}{inner[2:]}"
        return f"{name}/{rest}" if is_d else f"mapping/{name}/{rest}"
    block, _, layer = part.removeprefix("synthesis.").partition(".")
    res = int(block[1:])
    prefix = f"{'' if is_d else 'synthesis/'}{res}x{res}"
    layer, is_affine = layer.removesuffix(".affine"), layer.endswith(".affine")
    if rest == "noise_const":
        number = 0 if res == 4 else 2 * int(np.log2(res)) - (5 if layer == "conv0" else 4)
        return f"synthesis/noise{number}"
    if rest == "const":
        return f"{prefix}/Const/const"
    if layer == "out":
        return f"Output/{rest}"
    names = {"conv0": "Conv0", "conv1": "Conv1_down"} if is_d else {"conv0": "Conv0_up", "conv1": "Conv1"}
    names |= {"conv": "Conv", "torgb": "ToRGB", "fromrgb": "FromRGB", "skip": "Skip", "fc": "Dense0"}
    name = "Conv" if res == 4 and layer == "conv1" else names[layer]
    return f"{prefix}/{name}/{'mod_' if is_affine else ''}{rest}"


@pytest.mark.parametrize("c_dim", [0, 3])
@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_stylegan2_gives_the_published_numbers(tmp_path: Path, c_dim: int, architecture: str) -> None:
    shapes = stylegan2.shapes(16, 2, c_dim, architecture=architecture)
    G, D = (stylegan2.random_state(each, seed) for seed, each in enumerate(shapes))
    in_g, in_d = to_tensorflow(G, is_d=False), to_tensorflow(D, is_d=True)
    kwargs = {"resolution": 16, "architecture": architecture, "mbstd_group_size": 2}
    write(tmp_path / "a.pkl", (network(in_g), network(in_d, **kwargs), network(in_g)))
    found = convert.load(tmp_path / "a.pkl")
    assert (found.family, found.model.d_architecture) == ("stylegan2", architecture)
    z, c, img = inputs(c_dim)
    # There a kernel correlates with the upsampled image, not turned.
    expected = stylegan2.generator(G, z, c, 16, 2, 0.5, up=stylegan2.up_convolution)
    torch.testing.assert_close(found.G_ema(z, c, truncation_psi=0.5, noise_mode="const"), expected, **TOLERANCE)
    expected = stylegan2.discriminator(D, img, c, 16, architecture, group=2)
    torch.testing.assert_close(found.D(img, c), expected, **TOLERANCE)


def stylegan2_shapes() -> tuple[dict[str, list[int]], ...]:
    states = [stylegan2.random_state(shapes, 1) for shapes in stylegan2.shapes(8, 2)]
    variables = [to_tensorflow(state, is_d) for state, is_d in zip(states, (False, True), strict=True)]
    return tuple({key: list(value.shape) for key, value in part.items()} for part in variables)


FAMILIES = {
    "progan": published.progan_shapes(8),
    "stylegan": published.stylegan_shapes(8, 2),
    "stylegan2": stylegan2_shapes(),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_is_used_and_no_other_is_known(tmp_path: Path, family: str) -> None:
    path = tmp_path / "a.pkl"
    G, D = (random_variables(shapes, 1) for shapes in FAMILIES[family])
    for index, net in enumerate((G, D)):
        for key in [*net, None]:
            parts = [dict(G), dict(D), dict(G)]
            if key is None:
                parts[index]["4x4/Strange/weight"] = torch.zeros(3)
            else:
                del parts[index][key]
            write(path, tuple(network(part) for part in parts))
            message = "unknown 4x4/Strange/weight" if key is None else "lacks|differ|has"
            with pytest.raises(ValueError, match=message) as refused:
                convert.load(path)
            assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fmap_decay": 0.5}, "fmap_decay must be 1.0, got 0.5"),
        ({"use_styles": False}, "use_styles must be True"),
        ({"blur_filter": (1, 3, 3, 1)}, "blur_filter must be"),
        ({"mapping_lrmul": 1.0}, "mapping_lrmul must be 0.01"),
    ],
)
def test_what_would_change_the_images_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    G, D = (random_variables(shapes, 1) for shapes in FAMILIES["stylegan"])
    write(tmp_path / "a.pkl", (network(G), network(D), network(G, **given)))
    with pytest.raises(ValueError, match=message):
        convert.load(tmp_path / "a.pkl")


def test_a_level_of_detail_that_there_is_not_is_refused(tmp_path: Path) -> None:
    G, D = (random_variables(shapes, 1) for shapes in FAMILIES["progan"])
    write(tmp_path / "a.pkl", (network(G, lod=7.0), network(D), network(G, lod=7.0)))
    with pytest.raises(ValueError, match="lod must be 0 to 1, got 7"):
        convert.load(tmp_path / "a.pkl")


def test_networks_within_one_another_without_end_are_refused(tmp_path: Path) -> None:
    laugh = network({"x": torch.zeros(1)})
    for _ in range(20):
        laugh = Network(
            {"variables": [("x", np.zeros(1))], "static_kwargs": {}, "components": dict.fromkeys("abcdefghij", laugh)}
        )
    write(tmp_path / "a.pkl", (laugh, laugh, laugh))
    with pytest.raises(ValueError):
        convert.load(tmp_path / "a.pkl")


def test_a_tensorflow_pickle_is_sampled_from_the_command_line(tmp_path: Path) -> None:
    G, D = (random_variables(shapes, 1) for shapes in FAMILIES["stylegan"])
    write(tmp_path / "a.pkl", (network(G, 3), network(D, 3), network(G, 3)))
    command = ["sample", str(tmp_path / "a.pkl"), "--trunc", "0.7", "--seeds", "0", "--device", "cpu"]
    assert cli.main([*command, "--outdir", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "grid.png").exists()
