"""Generators as files that other programs run."""

import json
from pathlib import Path

import pytest
import torch

from gankern.models import cli
from gankern.models.config import FAMILIES, find_preset, resolve
from gankern.models.export import ABOUT, Images, example_inputs, trace

SMALL = {
    "stylegan2": ("digits", {"channel_base": 128, "channel_max": 16, "mapping_layers": 2}),
    "stylegan": ("stylegan-digits", {"channel_base": 128, "channel_max": 16, "mapping_layers": 2}),
    "progan": ("progan-digits", {"channel_base": 128, "channel_max": 16}),
    "biggan": ("biggan-digits", {"ch": 8}),
    "sagan": ("sngan-cifar", {}),
}


def small_generator(family: str) -> torch.nn.Module:
    from dataclasses import replace

    cfg, options = SMALL[family]
    found, _ = find_preset(cfg)
    model, _ = resolve(cfg, 16 if family != "sagan" else 32, 3 if family == "sagan" else 1, 10, precision="fp32")
    known = {name: value for name, value in options.items() if hasattr(model, name)}
    torch.manual_seed(0)
    return FAMILIES[found].build(replace(model, **known))[0].eval()  # type: ignore[type-var]


@pytest.mark.parametrize("ops", ["gankern", "plain"])
@pytest.mark.parametrize("family", SMALL)
def test_the_graph_of_every_family_gives_the_same_images_for_any_batch(family: str, ops: str) -> None:
    G = small_generator(family)
    images = Images(G, 0.7, "const").eval()
    graph = trace(images, ops).module()
    for batch in (1, 4):  # 4: a height of the noise
        inputs = example_inputs(G, batch)
        with torch.no_grad():
            torch.testing.assert_close(graph(*inputs), images(*inputs), rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", SMALL)
def test_a_plain_graph_has_no_op_of_gankerns(family: str) -> None:
    def namespaces(ops: str) -> set[str]:
        nodes = trace(Images(small_generator(family), 1, "const"), ops).graph.nodes
        return {str(node.target).partition(".")[0] for node in nodes if node.op == "call_function"}

    assert "gankern" in namespaces("gankern")
    assert "gankern" not in namespaces("plain")


def test_an_unconditional_generator_takes_latents_alone() -> None:
    model, _ = resolve("progan-digits", 16, 1, 0, precision="fp32")
    G = FAMILIES["progan"].build(model)[0].eval()
    assert [x.shape[1] for x in example_inputs(G, 2)] == [G.z_dim]
    assert trace(Images(G, 1, "const")).module()(*example_inputs(G, 3)).shape == (3, 1, 16, 16)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("runs")
    options = ["--data", "digits:8", "--kimg", "0.016", "--batch", "8", "--precision", "bf16", "--device", "cpu"]
    assert cli.main(["train", "--outdir", str(outdir), *options]) == 0
    return next(outdir.iterdir())


@pytest.mark.parametrize(("suffix", "ops"), [("pt2", "gankern"), ("pt2", "plain"), ("onnx", "plain")])
def test_the_command_writes_a_file_and_says_how_its_images_compare(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, ops: str
) -> None:
    path = tmp_path / f"digits.{suffix}"
    assert cli.main(["export", str(run_dir), str(path), "--ops", ops, "--trunc", "0.7"]) == 0
    out = capsys.readouterr().out
    assert "z [N, 64] and c [N, 10] -> img [N, 1, 8, 8]" in out
    assert f"{ops} ops" in out
    assert "largest difference" in out


def test_an_onnx_file_says_what_it_holds(run_dir: Path, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "digits.onnx"
    assert cli.main(["export", str(run_dir), str(path)]) == 0
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    about = json.loads(properties[Path(ABOUT).stem])
    assert about["family"] == "stylegan2"
    assert about["image"] == {"shape": [1, 8, 8], "range": [-1, 1]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["digits.bin"], "OUT must end in .pt2 or .onnx, got"),
        (["digits.onnx", "--ops", "gankern"], "--ops must be plain for ONNX"),
        (["digits.pt2", "--trunc", "-1"], "--trunc must be positive, got -1"),
    ],
)
def test_wrong_options_are_one_clear_line(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    name, *rest = options
    assert cli.main(["export", str(run_dir), str(tmp_path / name), *rest]) == 1
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
