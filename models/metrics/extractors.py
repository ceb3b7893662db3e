"""Networks that turn images into features: any callable, or one read from a weights file that you have.

Nothing is downloaded: a file is given, or lies under its own name in the cache folder. Two formats are read:

- TorchScript (`torch.jit.load`): NVIDIA's `inception-2015-12-05.pt` and `vgg16.pt`, or any module of your own that
  takes uint8 images [N, 3, H, W] and returns features [N, F].
- torch-fidelity's `weights-inception-2015-12-05-6726825d.pth`, and torchvision's VGG16 state dict; torch-fidelity
  supplies the network (extra `fidelity`).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .feature_cache import default_folder

# What each network gives, and how the two formats are asked for it: keywords of the TorchScript module's forward,
# torch-fidelity's class and the name of its feature.
OUTPUTS: dict[str, tuple[dict[str, bool], str, str]] = {
    "inception": ({"return_features": True}, "FeatureExtractorInceptionV3", "2048"),  # [N, 2048]
    "probabilities": ({"no_output_bias": True}, "FeatureExtractorInceptionV3", "logits_unbiased"),  # [N, 1008]
    "vgg": ({"return_features": True}, "FeatureExtractorVGG16", "fc2_relu"),  # [N, 4096]
}
# What to look for in the cache folder where no file is given.
FILES = {
    "inception": ("inception-2015-12-05.pt", "weights-inception-2015-12-05-6726825d.pth"),
    "vgg": ("vgg16.pt", "vgg16-397923af.pth"),
    "lpips": ("vgg16.pt",),
}


class Extractor:
    """Turns images into features.

    Args:
        function: uint8 images [N, 3, H, W] to features [N, F].
        fingerprint: Says which network this is and what it does to the images before; changes whenever a feature
            would. None where it is unknown: then nothing is cached.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], fingerprint: str | None = None):
        self.function = function
        self.fingerprint = fingerprint
        self.last: tuple[Tensor, Tensor] | None = None  # two metrics of one batch need its features once

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features float [N, F] of images uint8 [N, C, H, W], grey or RGB.

        Raises:
            ValueError: The function does not return one row per image.
        """
        if self.last is None or self.last[0] is not images:
            features = self.function(images.expand(-1, 3, -1, -1))
            if features.ndim != 2 or len(features) != len(images):
                raise ValueError(f"extractor: expected features [{len(images)}, F], got {list(features.shape)}")
            self.last = (images, features)
        return self.last[1]


def load_extractor(path: str | Path | None, output: str, device: torch.device | str = "cpu") -> Extractor:
    """Reads a feature network from a local file.

    Args:
        path: The weights file; None for the one in the cache folder.
        output: "inception" (2048 features), "probabilities" (1008 classes, without the output's bias) or "vgg" (4096).
        device: Where the network shall run.

    Raises:
        FileNotFoundError: There is no such file; the message says which one is needed.
        ModuleNotFoundError: The file needs torch-fidelity, which is not installed.
        ValueError: The output is unknown.
    """
    if output not in OUTPUTS:
        raise ValueError(f"extractor: output must be one of {', '.join(OUTPUTS)}, got {output}")
    kind = "vgg" if output == "vgg" else "inception"
    file = _existing(path, kind)
    keywords, class_name, feature = OUTPUTS[output]
    if is_torchscript(file):
        function = _scripted(file, keywords, device)
    else:
        network = _fidelity_network(file, class_name, feature).to(device)
        if output == "probabilities":
            function = lambda images: network(images)[0].softmax(1)  # noqa: E731
        else:
            function = lambda images: network(images)[0]  # noqa: E731
    return Extractor(lambda images: function(images.to(device)), f"{output}:{file_hash(file)}")


def load_lpips(path: str | Path | None, device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS of NVIDIA's `vgg16.pt`: its squared distance of embeddings, for `ppl`.

    Args:
        path: The TorchScript file; None for the one in the cache folder. `ppl` takes any other callable too.
        device: Where the network shall run.

    Returns:
        Distance of two float images [N, 3, H, W] in [-1, 1]: [N].

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not TorchScript.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, equation 1.
    """
    embed = load_lpips_embedding(path, device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        first, second = embed(torch.cat([a, b])).chunk(2)  # [N, F] each
        return (first - second).square().sum(1)

    return distance


def load_lpips_embedding(path: str | Path | None, device: torch.device | str = "cpu") -> Callable[[Tensor], Tensor]:
    """What `load_lpips` compares: float images [N, 3, H, W] in [-1, 1] to [N, F]; arguments and errors are the same."""
    file = _existing(path, "lpips")
    if not is_torchscript(file):
        raise ValueError(f"lpips: {file} is not TorchScript, expected {FILES['lpips'][0]} of NVIDIA")
    embed = _scripted(file, {"resize_images": False, "return_lpips": True}, device)
    return lambda images: embed((images + 1) * 127.5).flatten(1)  # pixels in [0, 255]


def is_torchscript(file: Path) -> bool:
    """Whether a file is a TorchScript archive, told by its contents: nothing in it is executed."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: str | Path | None, kind: str) -> Path:
    """The given file, or one of `FILES` in the cache folder."""
    folder = default_folder()
    candidates = [folder / name for name in FILES[kind]] if path is None else [Path(path)]
    found = [file for file in candidates if file.is_file()]
    if not found:
        missing = "" if path is None else f"no file {path}; "
        names = " or ".join(FILES[kind])
        raise FileNotFoundError(f"{kind}: {missing}needs {names}, in {folder} or given with --{kind} FILE")
    return found[0]


def _scripted(file: Path, keywords: dict[str, bool], device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """The module of a TorchScript file, called with the keywords; one that knows no keyword is called without."""
    module: Any = torch.jit.load(file, map_location=device).eval()
    known = [argument.name for argument in module.forward.schema.arguments][2:]  # after self and the images
    if not known and "return_lpips" not in keywords:
        return module
    unknown = [name for name in keywords if name not in known]
    if unknown:
        raise ValueError(
            f"{file}: forward must take {', '.join(keywords)}, it has {', '.join(known) or 'none of them'}"
        )
    return lambda images: module(images, **keywords)


def _fidelity_network(file: Path, class_name: str, feature: str) -> Any:
    try:
        torch.load(file, weights_only=True)  # torch-fidelity would run code that hides in a pickle; this refuses it
    except Exception as error:  # torch raises many types for a file that is none of its own
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{file}: expected TorchScript or a state dict of tensors ({reason})") from error
    try:
        import torch_fidelity.feature_extractor_inceptionv3
        import torch_fidelity.feature_extractor_vgg16
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{file.name} is a state dict, whose network torch-fidelity supplies: pip install 'gankern[fidelity]' "
            f"({error}); NVIDIA's TorchScript files need no other package"
        ) from error
    modules = (torch_fidelity.feature_extractor_inceptionv3, torch_fidelity.feature_extractor_vgg16)
    network = next(getattr(module, class_name) for module in modules if hasattr(module, class_name))
    return network(class_name, [feature], feature_extractor_weights_path=str(file))
