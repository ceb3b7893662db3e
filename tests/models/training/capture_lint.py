"""Finds what would make the host wait for a GPU, or a captured CUDA graph wrong, by the ops of a run on the CPU."""

from __future__ import annotations

import traceback
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

FORBIDDEN = {  # what reads values on the host, has a result whose size depends on values, or moves host memory
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::equal",
    "aten::allclose",
    "aten::nonzero",
    "aten::argwhere",
    "aten::masked_select",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::_unique",
    "aten::_unique2",
    "aten::randperm",
    "aten::repeat_interleave.Tensor",
    "aten::lift_fresh",  # torch.tensor(...): a constant that every run would copy from the host
    "aten::bincount",
    "aten::histc",
}
METHODS = ("tolist", "numpy", "cpu", "pin_memory")  # of a tensor; no op of the CPU shows them
INDEXING = ("aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class CaptureLint(TorchDispatchMode):
    """Records the forbidden ops that run inside, each with the line of the code that called it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __enter__(self) -> Any:
        self.methods = {name: getattr(torch.Tensor, name) for name in METHODS}
        for name, method in self.methods.items():
            setattr(torch.Tensor, name, self._recording(name, method))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for name, method in self.methods.items():
            setattr(torch.Tensor, name, method)
        super().__exit__(*error)

    def _recording(self, name: str, method: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.found.append(f"Tensor.{name} from {_caller()}")
            return method(*args, **kwargs)

        return recorded

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.name()
        plain = name.partition(".")[0]
        if plain in FORBIDDEN or name in FORBIDDEN or (name.startswith(INDEXING) and _by_mask(args)):
            self.found.append(f"{name} from {_caller()}")
        return func(*args, **(kwargs or {}))


def _by_mask(args: tuple[Any, ...]) -> bool:
    indices = args[1] if len(args) > 1 else ()
    return any(isinstance(i, torch.Tensor) and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _caller() -> str:
    """The innermost line that is neither PyTorch's nor this file's; in a backward pass there is none of a layer's."""
    for frame in reversed(traceback.extract_stack()):
        if "/torch/" not in frame.filename and frame.filename != __file__:
            return f"{frame.filename}:{frame.lineno} {frame.line}"
    return "a backward pass"
