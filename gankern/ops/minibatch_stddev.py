"""minibatch_stddev: how much the samples of a batch differ, as an extra channel for the discriminator."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from gankern import checks, dispatch, library
from gankern.reference import minibatch_stddev as reference

GROUPINGS = ("strided", "contiguous")


def minibatch_stddev(
    x: torch.Tensor,
    group_size: int | None = 4,
    num_channels: int = 1,
    *,
    grouping: str = "strided",
    unbiased: bool = False,
    process_group: dist.ProcessGroup | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Appends to x the standard deviation of its features over groups of samples.

    y[f] = mean over the channels of f and all pixels of sqrt(var over the group + 1e-8), the same for each pixel
    and each member of a group. Sample i belongs to group i mod (N / group_size), or with grouping='contiguous' to
    group i // group_size.

    Args:
        x: Features [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        group_size: Samples per group; a batch smaller than that is one group. None takes the whole batch.
        num_channels: Channels to append, F; each sums up C / F neighbouring channels of x.
        grouping: 'strided' (ProGAN's and StyleGAN's) or 'contiguous' (pytorch_GAN_zoo's).
        unbiased: Divides the variance by group_size - 1 instead of group_size (a group of one keeps variance 0).
        process_group: Takes the statistics over the batches of all its R ranks, so that the result is that of the
            whole batch, of which sample i is sample i // R of rank i mod R. All ranks have the same N. Where strided
            groups fit into a rank's batch they lie in one already, and nothing is sent. None: each rank by itself.
            Not inside a compiled graph.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C + F, H, W] of the dtype of x; channels_last if x is, else contiguous.

    Raises:
        TypeError: x is not a floating-point tensor of a dtype named above.
        ValueError: the group size does not divide N, the number of channels does not divide C, `grouping` is unknown.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, to any order; across ranks that of the sum over the ranks' losses.
    Backends: native (CPU), triton, eager. Arithmetic in float32 for 16-bit types.
    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
        section 3; in groups as in Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020.
    """
    ranks = 1 if process_group is None else dist.get_world_size(process_group)
    group_size = _check(x, group_size, num_channels, grouping, ranks)
    options = (group_size, num_channels, grouping == "contiguous", bool(unbiased))
    chosen = dispatch.choose("minibatch_stddev", x.device.type, backend)
    whole_groups = grouping == "strided" and group_size > 0 and x.shape[0] % group_size == 0
    if ranks > 1 and x.numel() > 0 and not whole_groups:
        y = _run(chosen, _all_ranks(x, process_group), options)[dist.get_rank(process_group) :: ranks]
        return y.contiguous(memory_format=library.memory_format(x))
    return _run(chosen, x, options)


def _run(backend: str, x: torch.Tensor, options: tuple) -> torch.Tensor:
    if backend == "eager":
        return reference.minibatch_stddev(x, *options).contiguous(memory_format=library.memory_format(x))
    return library.ops(backend).minibatch_stddev(x, *options)


def _check(x: Any, group_size: Any, num_channels: Any, grouping: Any, ranks: int) -> int:
    """Returns the group size that applies to this batch."""
    op = "minibatch_stddev"
    checks.check_image(op, x)
    n, c = x.shape[0] * ranks, x.shape[1]
    if group_size is not None and (not checks.is_integer(group_size) or group_size < 1):
        raise checks.bad_value(op, "group_size", "be None or an integer of at least 1", repr(group_size))
    if not checks.is_integer(num_channels) or num_channels < 1 or c < 1 or c % num_channels != 0:
        expected = f"be an integer that divides C = {c} (x is {list(x.shape)})"
        raise checks.bad_value(op, "num_channels", expected, repr(num_channels))
    if grouping not in GROUPINGS:
        raise checks.bad_value(op, "grouping", f"be one of {', '.join(GROUPINGS)}", repr(grouping))
    group_size = n if group_size is None else min(group_size, n)
    if n == 0:
        return 1
    if n % group_size != 0:
        raise checks.bad_value(op, "group_size", f"divide N = {n} (x is {list(x.shape)})", group_size)
    return group_size


class _AllGather(torch.autograd.Function):
    """[n, ...] of each rank -> [n * ranks, ...] on every rank, in turn one of each."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(group))]
        dist.all_gather(parts, x, group=group)
        return torch.stack(parts, 1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> tuple:
        return _SumOwn.apply(dy, ctx.group), None


class _SumOwn(torch.autograd.Function):
    """The derivative of the above, and it of this: the sum over the ranks of what each has for this rank's part."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        y = y.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(y, group=group)
        return y[dist.get_rank(group) :: dist.get_world_size(group)].clone()

    @staticmethod
    def backward(ctx: Any, dx: torch.Tensor) -> tuple:
        return _AllGather.apply(dx.contiguous(), ctx.group), None


@torch._disable_dynamo  # torch.compiler.disable would import all of Dynamo here and now
def _all_ranks(x: torch.Tensor, group: dist.ProcessGroup | None) -> torch.Tensor:
    """The batches of all ranks [ranks * n, C, H, W], in the memory format of x."""
    return _AllGather.apply(x.contiguous(), group).contiguous(memory_format=library.memory_format(x))


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    x, *ctx.options = inputs
    ctx.save_for_backward(x)


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None) -> tuple:
    dx = None if dy is None else ops.minibatch_stddev_backward(dy, *ctx.saved_tensors, *ctx.options)
    return dx, None, None, None, None


def _fake(x: torch.Tensor, group_size: int, num_channels: int, contiguous: bool, unbiased: bool) -> torch.Tensor:
    return _image(x, x.shape[1] + num_channels)


def _image(x: torch.Tensor, channels: int) -> torch.Tensor:
    shape = [x.shape[0], channels, x.shape[2], x.shape[3]]
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=library.memory_format(x))


OPTIONS = "int group_size, int num_channels, bool contiguous, bool unbiased"

library.define(
    "minibatch_stddev",
    f"(Tensor x, {OPTIONS}) -> Tensor",
    fake=_fake,
    setup_context=_setup_context,
    backward=_backward,
)


def _setup_backward_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    dy, x, *ctx.options = inputs
    ctx.save_for_backward(dy, x)


def _backward_backward(ctx: Any, ops: Any, ddx: torch.Tensor | None) -> tuple:
    if ddx is None:
        return (None,) * 6
    grad_dy, grad_x = ops.minibatch_stddev_backward_backward(ddx, *ctx.saved_tensors, *ctx.options)
    return grad_dy, grad_x, None, None, None, None


library.define(
    "minibatch_stddev_backward",
    f"(Tensor dy, Tensor x, {OPTIONS}) -> Tensor",
    fake=lambda dy, x, *options: _image(x, x.shape[1]),
    setup_context=_setup_backward_context,
    backward=_backward_backward,
)


def _setup_second_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    ddx, dy, x, *ctx.options = inputs
    ctx.save_for_backward(ddx, dy, x)


def _third_order(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    """Differentiates the reference three times, which is right to every order; nothing in training comes here."""
    given = [i for i, gradient in enumerate(gradients) if gradient is not None]
    if not given:
        return (None,) * 7
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        ddx, dy, x = (t if t.requires_grad else t.detach().requires_grad_() for t in ctx.saved_tensors)
        y = reference.minibatch_stddev(x, *ctx.options)
        (dx,) = torch.autograd.grad(y, x, dy, create_graph=True)
        outputs = torch.autograd.grad(dx, (dy, x), ddx, create_graph=True)
        results = torch.autograd.grad(
            [outputs[i] for i in given],
            (ddx, dy, x),
            [gradients[i] for i in given],
            create_graph=create_graph,
            allow_unused=True,
        )
    return *results, None, None, None, None


library.define(
    "minibatch_stddev_backward_backward",
    f"(Tensor ddx, Tensor dy, Tensor x, {OPTIONS}) -> (Tensor, Tensor)",
    fake=lambda ddx, dy, x, *options: (_image(x, dy.shape[1]), _image(x, x.shape[1])),
    setup_context=_setup_second_context,
    backward=_third_order,
)
