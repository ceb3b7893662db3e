"""winograd"""

from __future__ import annotations

from gankern import library


def _no_derivative(ctx, ops, *gradients):
    raise NotImplementedError("x")


library.define(
    "winograd_weight",
    "(Tensor w, bool transposed) -> Tensor",
    fake=lambda w, transposed: w,
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
library.define(
    "winograd_conv2d",
    "(Tensor x, Tensor u, int o, int py, int px, Tensor? scale, Tensor? out_scale, Tensor? noise, Tensor? strength, "
    "Tensor? b, str act, float alpha, float gain, float? clamp) -> Tensor",
    fake=lambda x, *rest: x,
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
library.define(
    "winograd_weight_gradient",
    "(Tensor x, Tensor dy, int py, int px, Tensor? scale, Tensor? dy_scale) -> Tensor",
    fake=lambda x, *rest: x,
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
