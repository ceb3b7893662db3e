"""The ops of NVIDIA's StyleGAN code: the modules of `torch_utils.ops`, and of StudioGAN's `utils.style_ops`.

stylegan2-ada-pytorch, stylegan3, R3GAN, StyleGAN-T, EG3D and DragGAN share them. A function has the published name and
signature, and calls gankern's op of the same name. What differs from gankern: `impl` instead of `backend`, numbers may
be tensors, filters may be of any length, and `grid_sample` and the convolutions are modules of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

import gankern
from gankern.dropin.calls import OF_TORCH, choose, count
from gankern.ops import upfirdn2d as resampling
from gankern.reference import bias_act as reference_bias_act
from gankern.reference import upfirdn2d as reference_upfirdn2d

PLUGINS = ("bias_act_plugin", "upfirdn2d_plugin", "filtered_lrelu_plugin")


class Activation(dict):
    """One row of `activation_funcs`; its values are attributes and items alike."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)


def _activation(name: str, index: int) -> Activation:
    spec = reference_bias_act.activation_funcs[name]

    def func(x: torch.Tensor, alpha: float = spec.def_alpha, **_: Any) -> torch.Tensor:
        return spec.func(x, alpha)

    saved = {"linear": "", "swish": "x"}.get(name, "y")
    return Activation(
        func=func,
        def_alpha=spec.def_alpha,
        def_gain=spec.def_gain,
        cuda_idx=index,
        ref=saved,
        has_2nd_grad=spec.curved,
    )


activation_funcs = {name: _activation(name, i + 1) for i, name in enumerate(reference_bias_act.activation_funcs)}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def bias_act(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.bias_act`."""
    backend = choose("bias_act", x, impl)
    return gankern.bias_act(x, b, dim, act, _number(alpha), _number(gain), _number(clamp), backend=backend)


def _bias_act_ref(
    x: torch.Tensor,
    b: torch.Tensor | None = None,
    dim: int = 1,
    act: str = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> torch.Tensor:
    return bias_act(x, b, dim, act, alpha, gain, clamp, impl="ref")


def setup_filter(
    f: Any,
    device: torch.device | str = torch.device("cpu"),  # noqa: B008 - the published default
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """`gankern.setup_filter`."""
    return gankern.setup_filter(f, device, normalize, flip_filter, gain, separable)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Any = 1,
    down: Any = 1,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.upfirdn2d`; plain PyTorch for filters of more taps than the kernels hold, such as StyleGAN-T's blur."""
    if f is not None and max(f.shape) > resampling.MAX_TAPS:
        count("upfirdn2d", x, "eager")
        scales, pads = (_parse_scaling(up), _parse_scaling(down)), _parse_padding(padding)
        return reference_upfirdn2d.upfirdn2d(x, f, *scales, pads, bool(flip_filter), float(gain))
    return gankern.upfirdn2d(x, f, up, down, padding, flip_filter, gain, backend=choose("upfirdn2d", x, impl))


def _upfirdn2d_ref(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Any = 1,
    down: Any = 1,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> torch.Tensor:
    return upfirdn2d(x, f, up, down, padding, flip_filter, gain, impl="ref")


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.filter2d`, for filters of any length."""
    fw, fh = _get_filter_size(f)
    px0, px1, py0, py1 = _parse_padding(padding)
    padding = [px0 + fw // 2, px1 + (fw - 1) // 2, py0 + fh // 2, py1 + (fh - 1) // 2]
    return upfirdn2d(x, f, padding=padding, flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Any = 2,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.upsample2d`."""
    return gankern.upsample2d(x, f, up, padding, flip_filter, gain, backend=choose("upfirdn2d", x, impl))


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: Any = 2,
    padding: Any = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.downsample2d`."""
    return gankern.downsample2d(x, f, down, padding, flip_filter, gain, backend=choose("upfirdn2d", x, impl))


def _parse_scaling(scaling: Any) -> tuple[int, int]:
    return resampling.parse_scaling("upfirdn2d", "scaling", scaling)


def _parse_padding(padding: Any) -> tuple[int, int, int, int]:
    return resampling.parse_padding("upfirdn2d", padding)


def _get_filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    return resampling.filter_size(f)


def conv2d_resample(
    x: torch.Tensor,
    w: torch.Tensor,
    f: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    groups: int = 1,
    flip_weight: bool = True,
    flip_filter: bool = False,
) -> torch.Tensor:
    """`gankern.conv2d_resample`."""
    count("conv2d_resample", x, kernels="conv2d")
    return gankern.conv2d_resample(x, w, f, up, down, padding, groups, flip_weight, flip_filter)


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`gankern.conv2d`; torch's own for an image without batch dimension and for padding by name."""
    if input.ndim != 4 or isinstance(padding, str):
        count("conv2d", input, OF_TORCH)
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    count("conv2d", input)
    return gankern.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> torch.Tensor:
    """`gankern.conv_transpose2d`; torch's own for an image without batch dimension."""
    if input.ndim != 4:
        count("conv_transpose2d", input, OF_TORCH)
        return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    count("conv_transpose2d", input, kernels="conv2d")
    return gankern.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)


@contextmanager
def no_weight_gradients(disable: bool = True) -> Iterator[None]:
    """`gankern.no_weight_gradients`, which unlike the published one ends with an exception too."""
    with gankern.no_weight_gradients(disable):
        yield


def grid_sample(input: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """`gankern.grid_sample`."""
    count("grid_sample", input)
    return gankern.grid_sample(input, grid)


def fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """a * b + c with broadcasting."""
    count("fma", a, OF_TORCH)
    return torch.addcmul(c, a, b)


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    impl: str = "cuda",
) -> torch.Tensor:
    """`gankern.filtered_lrelu`."""
    backend = choose("filtered_lrelu", x, impl)
    return gankern.filtered_lrelu(
        x, fu, fd, b, up, down, padding, float(gain), float(slope), _number(clamp), flip_filter, backend=backend
    )


def _filtered_lrelu_ref(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Any = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
) -> torch.Tensor:
    return filtered_lrelu(x, fu, fd, b, up, down, padding, gain, slope, clamp, flip_filter, impl="ref")


def _init(verbosity: Any = None) -> bool:
    """What builds the published kernels: there is nothing to build."""
    return True


_BUILT = {"_init": _init, "_plugin": gankern}  # callers ask whether it is None
_CONVOLUTIONS = {
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "no_weight_gradients": no_weight_gradients,
    "enabled": False,  # what callers set, and gankern does not need
    "weight_gradients_disabled": False,
}
_SIZES = {"_parse_padding": _parse_padding, "_get_filter_size": _get_filter_size}

MODULES: dict[str, dict[str, Any]] = {
    "bias_act": {**_BUILT, "bias_act": bias_act, "activation_funcs": activation_funcs, "_bias_act_ref": _bias_act_ref},
    "upfirdn2d": {
        **_BUILT,
        **_SIZES,
        "setup_filter": setup_filter,
        "upfirdn2d": upfirdn2d,
        "filter2d": filter2d,
        "upsample2d": upsample2d,
        "downsample2d": downsample2d,
        "_upfirdn2d_ref": _upfirdn2d_ref,
        "_parse_scaling": _parse_scaling,
    },
    "conv2d_resample": {**_SIZES, "conv2d_resample": conv2d_resample},
    "conv2d_gradfix": _CONVOLUTIONS,
    "grid_sample_gradfix": {"grid_sample": grid_sample, "enabled": False},
    "fma": {"fma": fma},
    "filtered_lrelu": {
        **_BUILT,
        **_SIZES,
        "filtered_lrelu": filtered_lrelu,
        "_filtered_lrelu_ref": _filtered_lrelu_ref,
    },
}


def custom_ops(own: Callable[[str], Any]) -> dict[str, Any]:
    """The module `torch_utils.custom_ops`: only plugins that gankern does not replace are built, by its own code."""

    def get_plugin(
        module_name: str, sources: Any, headers: Any = None, source_dir: Any = None, **build_kwargs: Any
    ) -> Any:
        if module_name in PLUGINS:
            return gankern
        given = {"headers": headers, "source_dir": source_dir}
        given = {name: value for name, value in given.items() if value is not None}  # an older one has neither
        return own("get_plugin")(module_name=module_name, sources=sources, **given, **build_kwargs)

    return {"get_plugin": get_plugin, "verbosity": "brief"}
