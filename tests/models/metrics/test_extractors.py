"""Feature networks from files, and callables as such."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gankern.models.metrics.extractors import Extractor, is_torchscript, load_extractor, load_lpips


class Detector(nn.Module):
    """Takes the keywords of the published TorchScript networks."""

    def forward(
        self,
        x: Tensor,
        return_features: bool = False,
        no_output_bias: bool = False,
        resize_images: bool = True,
        return_lpips: bool = False,
    ) -> Tensor:
        pooled = x.float().mean(dim=[2, 3])  # [N, 3]
        if return_lpips:
            return pooled * (100.0 if resize_images else 1.0)
        if return_features:
            return pooled
        return (pooled * (0.0 if no_output_bias else 1.0)).softmax(1)


class Plain(nn.Module):
    """Takes images, and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float().flatten(1)[:, :5]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANKERN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    torch.jit.script(Detector()).save(str(tmp_path / "detector.pt"))
    return tmp_path / "detector.pt"


pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
IMAGES = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)


def test_a_torchscript_file_is_asked_for_each_output_by_its_keyword(detector: Path) -> None:
    pooled = IMAGES.float().mean((2, 3))
    for output in ("inception", "vgg"):
        torch.testing.assert_close(load_extractor(detector, output)(IMAGES), pooled)
    probabilities = load_extractor(detector, "probabilities")(IMAGES)
    torch.testing.assert_close(probabilities, torch.full([4, 3], 1 / 3))


def test_a_torchscript_file_of_your_own_needs_no_keywords(tmp_path: Path) -> None:
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    assert load_extractor(tmp_path / "plain.pt", "inception")(IMAGES).shape == (4, 5)


def test_a_torchscript_file_of_another_network_is_not_taken_for_the_published_one(tmp_path: Path) -> None:
    class Features(nn.Module):
        def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
            return x.float().mean(dim=[2, 3])

    torch.jit.script(Features()).save(str(tmp_path / "features.pt"))
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    assert load_extractor(tmp_path / "features.pt", "inception")(IMAGES).shape == (4, 3)
    with pytest.raises(ValueError, match="forward must take no_output_bias, it has return_features"):
        load_extractor(tmp_path / "features.pt", "probabilities")
    for name, has in (("features", "return_features"), ("plain", "none of them")):
        with pytest.raises(ValueError, match=f"must take resize_images, return_lpips, it has {has}"):
            load_lpips(tmp_path / f"{name}.pt")


def test_lpips_is_the_squared_distance_of_embeddings_of_pixels_from_0_to_255(detector: Path) -> None:
    a, b = torch.rand(2, 5, 3, 8, 8) * 2 - 1
    expected = ((a.mean((2, 3)) - b.mean((2, 3))) * 127.5).square().sum(1)
    torch.testing.assert_close(load_lpips(detector)(a, b), expected, rtol=1e-4, atol=1e-4)


def test_the_fingerprint_says_which_file_and_which_output(detector: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(detector.read_bytes())
    prints = [load_extractor(path, out).fingerprint for path in (detector, copy) for out in ("inception", "vgg")]
    assert prints[:2] == prints[2:]
    assert prints[0] != prints[1]


def test_any_callable_is_an_extractor_that_sees_three_channels_and_is_asked_once_per_batch() -> None:
    seen = []

    def features(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape))
        return images.float().mean((2, 3))

    extract = Extractor(features)
    grey = IMAGES[:, :1]
    assert torch.equal(extract(grey), extract(grey))
    assert seen == [(4, 3, 8, 8)]
    assert extract.fingerprint is None


def test_features_that_are_no_row_per_image_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected features \[4, F\], got \[4, 3, 8, 8\]"):
        Extractor(lambda images: images)(IMAGES)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: load_extractor(None, "inception"),
            r"inception-2015-12-05.pt or .*6726825d.pth, in .* --inception FILE",
        ),
        (lambda: load_extractor("no/such.pt", "probabilities"), r"no file no/such.pt; needs inception-2015"),
        (lambda: load_extractor(None, "vgg"), r"needs vgg16.pt or vgg16-397923af.pth, in .* --vgg FILE"),
        (lambda: load_lpips(None), r"needs vgg16.pt, in .* --lpips FILE"),
    ],
)
def test_a_missing_file_is_named_with_the_option_that_gives_it(call, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        call()


def test_a_file_in_the_cache_folder_needs_no_option(detector: Path, cache: Path) -> None:
    detector.rename(cache / "vgg16.pt")
    assert load_extractor(None, "vgg")(IMAGES).shape == (4, 3)
    assert load_lpips(None)(torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)).tolist() == [0, 0]


def test_an_unknown_output_is_refused(detector: Path) -> None:
    with pytest.raises(ValueError, match="one of inception, probabilities, vgg, got resnet"):
        load_extractor(detector, "resnet")


def test_a_state_dict_is_told_from_torchscript(detector: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "state.pth")
    assert is_torchscript(detector)
    assert not is_torchscript(tmp_path / "state.pth")
    with pytest.raises(ValueError, match="is not TorchScript"):
        load_lpips(tmp_path / "state.pth")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code in the file was executed",))


def test_code_in_a_state_dict_is_not_executed(tmp_path: Path) -> None:
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="expected TorchScript or a state dict of tensors"):
        load_extractor(tmp_path / "evil.pth", "inception")


def test_a_state_dict_of_torch_fidelity_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "state.pth")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gankern\[fidelity\]'"):
        load_extractor(tmp_path / "state.pth", "inception")


def test_a_state_dict_of_torch_fidelity_is_read_by_its_network(tmp_path: Path) -> None:
    theirs = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity cannot be imported", exc_type=ImportError
    )
    torch.save({}, tmp_path / "inception.pth")
    given = {"feature_extractor_weights_path": str(tmp_path / "inception.pth")}
    with pytest.MonkeyPatch.context() as patch:  # random weights
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(theirs.FeatureExtractorInceptionV3("x", ["2048"], **given).state_dict(), tmp_path / "inception.pth")
    network = theirs.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], **given)
    features, logits = network(IMAGES)
    torch.testing.assert_close(load_extractor(tmp_path / "inception.pth", "inception")(IMAGES), features)
    found = load_extractor(tmp_path / "inception.pth", "probabilities")(IMAGES)
    torch.testing.assert_close(found, logits.softmax(1))
