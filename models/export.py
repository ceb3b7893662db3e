"""A generator as one file that other programs run: torch.export's or ONNX."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gankern

from .training.checkpoint import write_atomically

OPS = ("gankern", "plain")
ABOUT = "gankern.json"  # the entry of a .pt2 that says what it holds; ONNX has it as a property of the model


class Images(nn.Module):
    """A generator as a function of its latents (and labels) alone.

    Args:
        G: Generator of any family, in evaluation mode.
        psi: Truncation, for generators with a mapping network.
        noise_mode: `const`, `none` or `random`, where the generator has noise.
    """

    def __init__(self, G: Any, psi: float, noise_mode: str):
        super().__init__()
        self.G, self.psi, self.noise_mode = G, psi, noise_mode

    def forward(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        """Latents [N, z_dim] and, with labels, c [N, c_dim], to images float32 [N, C, H, W] in [-1, 1]."""
        if c is None:
            c = z.new_zeros(z.shape[0], 0)
        if not hasattr(self.G, "mapping"):
            return self.G(z, c).float()
        ws = self.G.mapping(z, c, truncation_psi=self.psi)  # [N, num_ws, w_dim]
        return self.G.synthesis(ws, noise_mode=self.noise_mode).float()


def trace(images: Images, ops: str = "gankern") -> torch.export.ExportedProgram:
    """The graph of a generator for any batch from 1 on.

    Args:
        images: What to trace.
        ops: `gankern` for graphs of gankern's ops, which need `import gankern` wherever they are loaded; `plain` for
            graphs of PyTorch's own.

    Raises:
        ValueError: `ops` is neither.
    """
    if ops not in OPS:
        raise ValueError(f"ops must be one of {', '.join(OPS)}, got {ops}")
    batch = torch.export.Dim("batch", min=1)
    inputs = example_inputs(images.G, batch=2)
    with torch.no_grad(), gankern.use_backend("eager") if ops == "plain" else nullcontext():
        return torch.export.export(images, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))


def example_inputs(G: Any, batch: int) -> tuple[Tensor, ...]:
    """Latents, and labels if the generator has any: the arguments of `Images`."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(batch, G.z_dim, generator=generator)
    return (z, torch.eye(G.c_dim)[torch.arange(batch) % G.c_dim]) if G.c_dim else (z,)


def write_pt2(exported: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Callable[..., Tensor]:
    """Writes `torch.export`'s own format, and gives the program that is in the file."""
    extra = {ABOUT: json.dumps(about)}
    with _quiet():
        write_atomically(path, lambda file: torch.export.save(exported, file, extra_files=extra))
        return torch.export.load(path).module()


def write_onnx(
    exported: torch.export.ExportedProgram, path: Path, about: dict[str, Any]
) -> Callable[..., Tensor] | None:
    """Writes ONNX, weights inside, and gives the model that is in the file, or None without onnxruntime."""
    try:
        import onnx  # noqa: F401  (torch.onnx names only the first that is missing)
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"export: ONNX needs {error.name}: pip install 'gankern[onnx]'") from error
    names = ["z", "c"][: len(exported.graph_signature.user_inputs)]
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            exported,
            (),
            dynamo=True,
            input_names=names,
            output_names=["img"],
            dynamic_shapes=tuple({0: batch} for _ in names),
            verbose=False,
        )
    if program is None:
        raise ValueError("export: torch.onnx gave no model")
    model = program.model_proto
    model.metadata_props.add(key=Path(ABOUT).stem, value=json.dumps(about))
    write_atomically(path, lambda file: file.write(model.SerializeToString()))
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return None
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *inputs: torch.from_numpy(
        session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})[0]
    )


WRITERS = {".pt2": write_pt2, ".onnx": write_onnx}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about its own exporter; what counts is that the images are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
