"""StyleGAN2's published PyTorch checkpoints, as files that these tests write in that format."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from gankern.models import cli, convert
from tests.models.convert.published_stylegan2 import discriminator, generator, random_state, shapes

MODULE_SOURCE = "import os; os.system('touch canary')"


class EasyDict(dict[str, Any]):
    """A dictionary of a class of the published code."""


class Published:
    """A network of the published code, pickled as it pickles itself: with its source, its arguments and its state."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __reduce__(self) -> Any:
        meta = EasyDict(type="class", version=6, module_src=MODULE_SOURCE, class_name="Generator", state=self.state)
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


def module(state: dict[str, torch.Tensor], **kwargs: Any) -> Published:
    """The tree of modules of a state dict, as torch.nn.Module keeps it."""
    parameters, buffers, children = OrderedDict(), OrderedDict(), {}
    for key, value in state.items():
        name, _, rest = key.partition(".")
        if rest:
            children.setdefault(name, {})[rest] = value
        elif name in ("resample_filter", "noise_const", "w_avg"):
            buffers[name] = value
        else:
            parameters[name] = torch.nn.Parameter(value)
    return Published(
        {
            "_init_args": (),
            "_init_kwargs": EasyDict(kwargs),
            "training": False,
            "_parameters": OrderedDict(bias=None) | parameters,
            "_buffers": buffers,
            "_non_persistent_buffers_set": set(),
            "_backward_hooks": OrderedDict(),
            "_modules": OrderedDict((name, module(child)) for name, child in children.items()),
        }
    )


def write(path: Path, content: dict[str, Any], protocol: int = 4) -> None:
    """Pickles with the published code's modules at hand, and takes them away again."""
    names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    made = {name: types.ModuleType(name) for name in names}

    def _reconstruct_persistent_obj(meta: Any) -> None:
        raise AssertionError("the published code runs")

    _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct_persistent_obj  # type: ignore[attr-defined]
    made["dnnlib.util"].EasyDict = EasyDict  # type: ignore[attr-defined]
    home = EasyDict.__module__
    EasyDict.__module__ = "dnnlib.util"
    sys.modules.update(made)
    try:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    finally:
        EasyDict.__module__ = home
        for name in names:
            del sys.modules[name]


def networks(resolution: int = 16, layers: int = 2, **options: Any) -> dict[str, dict[str, torch.Tensor]]:
    G, D = shapes(resolution, layers, **options)
    return {"G": random_state(G, 1), "D": random_state(D, 2), "G_ema": random_state(G, 3)}


def arguments(clamp: float | None = None, fp16: int = 0, group: int = 4) -> dict[str, dict[str, Any]]:
    """As the published training makes G and D."""
    synthesis = EasyDict(channel_base=64, channel_max=12, num_fp16_res=fp16, conv_clamp=clamp)
    G = {"z_dim": 6, "w_dim": 10, "mapping_kwargs": EasyDict(num_layers=2), "synthesis_kwargs": synthesis}
    D = {"channel_base": 64, "channel_max": 12, "num_fp16_res": fp16, "conv_clamp": clamp}
    D |= {"block_kwargs": EasyDict(freeze_layers=0), "mapping_kwargs": EasyDict()}
    D |= {"epilogue_kwargs": EasyDict(mbstd_group_size=group)}
    return {"G": G, "D": D, "G_ema": G}


def write_pickle(path: Path, states: dict[str, Any], protocol: int = 4, **options: Any) -> None:
    kwargs = arguments(**options)
    content = {name: module(state, **kwargs[name]) for name, state in states.items()}
    write(path, {**content, "augment_pipe": None, "training_set_kwargs": EasyDict(path="x.zip")}, protocol)


def inputs(n: int = 4, c_dim: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(7)
    c = torch.eye(c_dim)[torch.arange(n) % c_dim] if c_dim else torch.zeros(n, 0)
    return torch.randn(n, 6, generator=random), c, torch.randn(n, 3, 16, 16, generator=random)


def assert_same_state(net: Any, state: dict[str, torch.Tensor]) -> None:
    found = net.state_dict()
    assert found.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize(("c_dim", "clamp"), [(0, None), (3, 2.0)])
def test_a_pickle_gives_the_published_numbers(tmp_path: Path, c_dim: int, clamp: float | None, protocol: int) -> None:
    path = tmp_path / "network.pkl"
    states = networks(c_dim=c_dim)
    write_pickle(path, states, clamp=clamp, group=2, protocol=protocol)
    found = convert.load(path)
    assert (found.family, found.source, found.notes) == ("stylegan2", "stylegan2-ada", [])
    z, c, img = inputs(c_dim=c_dim)
    for name in ("G", "G_ema"):
        net = getattr(found, name)
        expected = generator(states[name], z, c, 16, 2, psi=0.7, clamp=clamp)
        torch.testing.assert_close(net(z, c, truncation_psi=0.7, noise_mode="const"), expected, rtol=1e-4, atol=1e-4)
        assert_same_state(net, states[name])
    expected = discriminator(states["D"], img, c, 16, group=2, clamp=clamp)
    torch.testing.assert_close(found.D(img, c), expected, rtol=1e-4, atol=1e-4)
    assert_same_state(found.D, states["D"])


@pytest.mark.parametrize("architecture", ["resnet", "skip", "orig"])
def test_the_architecture_of_d_is_seen(tmp_path: Path, architecture: str) -> None:
    states = networks(architecture=architecture)
    torch.save(states["D"], tmp_path / "D.pth")
    found = convert.load(tmp_path / "D.pth")
    assert found.model.d_architecture == architecture
    _, c, img = inputs()
    expected = discriminator(states["D"], img, c, 16, architecture)
    torch.testing.assert_close(found.D(img, c), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("which", "has"), [(None, {"G_ema"}), ("G_ema", {"G_ema"}), ("G", {"G"})])
def test_a_bare_generator_is_the_average_or_what_is_asked_for(tmp_path: Path, which: str | None, has: set[str]) -> None:
    states = networks()
    torch.save(states["G"], tmp_path / "G.pt")
    found = convert.load(tmp_path / "G.pt", which=which)
    assert found.networks().keys() == has
    assert "mbstd_group_size" in found.notes[0]
    with pytest.raises(ValueError, match="the file has G_ema, not D"):
        convert.load(tmp_path / "G.pt", which="D")


@pytest.mark.parametrize("to", ["stylegan2-ada", "gankern"])
def test_in_and_out_is_the_identity(tmp_path: Path, to: str) -> None:
    states = networks(c_dim=2)
    write_pickle(tmp_path / "a.pkl", states)
    first = convert.load(tmp_path / "a.pkl")
    convert.save(first, tmp_path / "b", to)
    again = convert.load(tmp_path / "b")
    assert again.model == first.model
    for name, state in states.items():
        assert_same_state(getattr(again, name), state)
    if to == "stylegan2-ada":
        written = torch.load(tmp_path / "b", weights_only=True)
        assert all(torch.equal(written[name][key], value) for name in states for key, value in states[name].items())


@pytest.mark.parametrize("name", ["G", "D"])
def test_a_missing_and_an_unknown_key_are_named(tmp_path: Path, name: str) -> None:
    states = networks()
    key = {"G": "synthesis.b8.conv0.noise_strength", "D": "b8.conv1.weight"}[name]
    value = states[name].pop(key)
    path = tmp_path / "a.pt"
    torch.save(states, path)
    with pytest.raises(ValueError, match=f"{name} lacks {key}"):
        convert.load(path)
    states[name] |= {key: value, "b99.strange": torch.zeros(1)}
    torch.save(states, path)
    with pytest.raises(ValueError, match=f"{name} has unknown b99.strange"):
        convert.load(path)


def test_every_key_matters(tmp_path: Path) -> None:
    """Without any one of them there is no network."""
    states = networks(resolution=8)
    path = tmp_path / "a.pt"
    for name, state in states.items():
        for key in state:
            less = {other: value for other, value in state.items() if other != key}
            torch.save({**states, name: less}, path)
            with pytest.raises(ValueError):
                convert.load(path)


def test_a_shape_that_does_not_fit_is_named(tmp_path: Path) -> None:
    states = networks()
    states["G"]["synthesis.b8.conv1.bias"] = torch.zeros(3)
    torch.save(states, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="3 channels at 8"):
        convert.load(tmp_path / "a.pt")
    states["G"]["synthesis.b8.conv1.bias"] = torch.zeros(8)
    states["G"]["synthesis.b8.torgb.affine.weight"] = torch.zeros(2, 2)
    torch.save(states, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"torgb\.affine\.weight must give shape \[8, 10\], got \[2, 2\]"):
        convert.load(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"activation": "relu"}, "activation must be lrelu, got relu"),
        ({"architecture": "resnet"}, "architecture must be"),
        ({"resample_filter": [1, 2, 1]}, "resample_filter must be"),
        ({"use_noise": False}, "use_noise must be True"),
        ({"magnitude_ema_beta": 0.5}, "'magnitude_ema_beta', which is unknown"),
    ],
)
def test_what_would_change_the_images_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    state = networks()["G_ema"]
    write(tmp_path / "a.pkl", {"G_ema": module(state, synthesis_kwargs=EasyDict(given))})
    with pytest.raises(ValueError, match=message):
        convert.load(tmp_path / "a.pkl")


def test_a_stylegan3_is_refused_as_one(tmp_path: Path) -> None:
    write(tmp_path / "a.pkl", {"G_ema": module({"synthesis.input.freqs": torch.zeros(3)})})
    with pytest.raises(ValueError, match="is a StyleGAN3"):
        convert.load(tmp_path / "a.pkl")


def test_modules_within_one_another_without_end_are_refused(tmp_path: Path) -> None:
    laugh: Published = module({"bias": torch.zeros(1)})
    for _ in range(20):
        laugh = Published({"_modules": {f"m{i}": laugh for i in range(10)}})
    write(tmp_path / "a.pkl", {"G_ema": laugh})
    with pytest.raises(ValueError, match="more than"):
        convert.load(tmp_path / "a.pkl")


def test_a_resolution_that_the_file_only_claims_builds_nothing(tmp_path: Path) -> None:
    state = networks()["G_ema"] | {"synthesis.b16384.conv1.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError):
        convert.load(tmp_path / "a.pt")


def test_a_pickle_is_sampled_and_converted_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pickle(tmp_path / "a.pkl", networks(), clamp=256.0, fp16=2)
    common = ["--seeds", "0-1", "--device", "cpu"]
    assert cli.main(["sample", str(tmp_path / "a.pkl"), *common, "--outdir", str(tmp_path / "x")]) == 0
    assert cli.main(["convert", str(tmp_path / "a.pkl"), str(tmp_path / "b.safetensors"), "--which", "G_ema"]) == 0
    assert "stylegan2-ada, stylegan2 16x16, G_ema" in capsys.readouterr().out
    assert cli.main(["sample", str(tmp_path / "b.safetensors"), *common, "--outdir", str(tmp_path / "y")]) == 0
    one, other = ((tmp_path / folder / "grid.png").read_bytes() for folder in "xy")
    assert one == other
    assert cli.main(["convert", str(tmp_path / "a.pkl"), str(tmp_path / "c"), "--to", "nothing"]) == 1
    assert "--to must be one of gankern, stylegan2-ada" in capsys.readouterr().err
