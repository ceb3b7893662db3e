"""conditional_batch_norm: batch normalisation with a gain and bias per sample, relu and nearest upsampling."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from gankern import checks, dispatch, library
from gankern.reference import conditional_batch_norm as reference

OP = "conditional_batch_norm"


def conditional_batch_norm(
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    act: str | None = None,
    up: int = 1,
    group: dist.ProcessGroup | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Normalises every channel over the batch, scales and shifts it per sample, and prepares the convolution's input.

    y = up(act(gain * (x - mean) / sqrt(var + eps) + bias)), with mean and biased variance of the batch in training,
    the running ones otherwise. In training the running ones become (1 - momentum) * running + momentum * batch, in
    place, where the batch's variance is the unbiased one, as in `torch.nn.functional.batch_norm`.

    Args:
        x: Features [N, C, H, W]; float64, float32, bfloat16 or float16, any strides.
        gain, bias: [N, C], one per sample, or [C]; of the dtype of x or float32.
        running_mean, running_var: [C], of the dtype of x or float32; both or neither in training.
        training: Whether to use, and to take into the running statistics, those of the batch.
        momentum: Weight of the batch in the running statistics; 1 / k at call k makes them the average of all calls.
        eps: Added to the variance.
        act: 'relu' or None.
        up: 1, or 2 to write every pixel as 2x2 (nearest neighbour).
        group: Processes whose batches are one batch; they may differ in size. Every process of it must call, and
            differentiate. None for this process alone.
        backend: 'native', 'triton' or 'eager'; None chooses.

    Returns:
        Tensor [N, C, up * H, up * W] of the dtype of x; channels_last if x is, else contiguous.

    Raises:
        TypeError: a tensor is not of a dtype named above, or a number is not a number.
        ValueError: a tensor does not fit x, `act` or `up` is unknown, running statistics are missing, eps is
            negative, momentum not in [0, 1], or there is but one value per channel to normalise.
        RuntimeError: the backend was forced and cannot run.

    Gradients: x, gain and bias, to any order; in training through the batch's statistics and across `group`. Eager in
        training without a group: to second order, for beyond it torch's own batch norm is wrong.
    Backends: native (CPU), triton, eager. Statistics and arithmetic in float32 for 16-bit types.
    Source: Dumoulin et al., "A Learned Representation for Artistic Style", 2017; de Vries et al., "Modulating early
        visual processing by language", 2017; as in Brock et al., "Large Scale GAN Training for High Fidelity Natural
        Image Synthesis", 2019, appendix B.
    """
    _check(x, gain, bias, running_mean, running_var, training, momentum, eps, act, up, group)
    chosen = dispatch.choose(OP, x.device.type, backend)
    total = _total(x)
    gain, bias = (t.to(total).expand(x.shape[:2]) for t in (gain, bias))
    mean = None if training or running_mean is None else running_mean.to(total)
    var = None if training or running_var is None else running_var.to(total)
    relu, eps, training = act == "relu", float(eps), bool(training)
    group = group if training else None
    if chosen == "eager":
        y, mean, var = reference.conditional_batch_norm(x, gain, bias, mean, var, eps, relu, up, group)
    else:
        ops, name = library.ops(chosen), "" if group is None else group.group_name
        count: Any = x.shape[0] * x.shape[2] * x.shape[3]
        if group is not None:
            mean, var, count = _moments_over(ops, x, name)
        y, statistics = ops.conditional_batch_norm(x, gain, bias, mean, var, eps, relu, up, training, name)
        if training and running_mean is not None:
            mean, var = statistics[0], statistics[2] * (count / (count - 1))
    is_empty = x.shape[0] == 0 and group is None
    if training and not is_empty and running_mean is not None and running_var is not None:
        _update(running_mean, mean, momentum)
        _update(running_var, var, momentum)
    return y


@torch.no_grad()
def _update(running: torch.Tensor, of_batch: Any, momentum: float) -> None:
    running.lerp_(of_batch.to(running.dtype), momentum)


def _check(
    x: Any,
    gain: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: Any,
    eps: Any,
    act: Any,
    up: Any,
    group: Any,
) -> None:
    checks.check_image(OP, x)
    n, c = x.shape[:2]
    vectors = {"running_mean": running_mean, "running_var": running_var}
    if (running_mean is None) != (running_var is None):
        raise checks.bad_value(OP, "running_mean and running_var", "be given together", "one of them")
    if running_mean is None and not training:
        raise checks.bad_value(OP, "running_mean and running_var", "be given where training is False", None)
    for name, t in {"gain": gain, "bias": bias, **vectors}.items():
        if t is None and name in vectors:
            continue
        checks.check_tensor(OP, name, t)
        if t.dtype not in (x.dtype, torch.float32):
            raise checks.bad_type(OP, name, f"be of the dtype of x, {x.dtype}, or float32", t.dtype)
        if not checks.has_shape(t, *([(c,)] if name in vectors else [(c,), (n, c)])):
            expected = f"[C] = [{c}]" if name in vectors else f"[N, C] = [{n}, {c}] or [C] = [{c}]"
            raise checks.bad_value(OP, name, f"have shape {expected}", f"{list(t.shape)} (x is {list(x.shape)})")
        checks.check_same_device(OP, name, t, x)
    for name, number in (("momentum", momentum), ("eps", eps)):
        checks.check_number(OP, name, number)
    if not eps >= 0:
        raise checks.bad_value(OP, "eps", "be at least 0", eps)
    if not 0 <= momentum <= 1:
        raise checks.bad_value(OP, "momentum", "be in [0, 1]", momentum)
    if act not in (None, "relu"):
        raise checks.bad_value(OP, "act", "be None or 'relu'", repr(act))
    if not isinstance(up, int) or up not in (1, 2):
        raise checks.bad_value(OP, "up", "be 1 or 2", repr(up))
    if training and group is None and n * x.shape[2] * x.shape[3] == 1:
        raise checks.bad_value(OP, "x", "have more than one value per channel in training", list(x.shape))


def _total(x: torch.Tensor) -> torch.dtype:
    """The dtype of everything small."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


@torch.no_grad()
def _moments_over(ops: Any, x: torch.Tensor, group: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean [C], biased variance [C] and number of values per channel [] of the batches of all processes."""
    mean, _, var = ops.conditional_batch_norm_moments(x).double()
    count = x.shape[0] * x.shape[2] * x.shape[3]
    sums = torch.stack([mean * count, (var + mean.square()) * count, torch.full_like(mean, count)])  # [3, C]
    dist.all_reduce(sums, group=_resolve(group))
    mean = sums[0] / sums[2]
    var = (sums[1] / sums[2] - mean.square()).clamp(min=0)  # in float64: nothing of a float32 is lost
    return mean.to(_total(x)), var.to(_total(x)), sums[2, 0].to(_total(x))


def _resolve(group: Any) -> dist.ProcessGroup:
    """The group of this name; an op takes numbers, strings and tensors only."""
    return dist.distributed_c10d._resolve_process_group(group)


def _empty_image(x: torch.Tensor, up: int) -> torch.Tensor:
    n, c, h, w = x.shape
    return torch.empty([n, c, up * h, up * w], dtype=x.dtype, device=x.device, memory_format=library.memory_format(x))


def _no_derivative(ctx: Any, ops: Any, *gradients: Any) -> tuple:
    raise RuntimeError(f"gankern.{OP}: this kernel is a part of others, which have the derivative; it has none")


library.define(
    "conditional_batch_norm_moments",
    "(Tensor x) -> Tensor",  # [3, C]: mean, (unused), biased variance
    fake=lambda x: x.new_empty([3, x.shape[1]], dtype=_total(x)),
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
    module=OP,
)


def _setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    x, gain, bias, _, _, ctx.eps, ctx.relu, ctx.up, ctx.training, ctx.group = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, gain, bias, output[1])


def _backward(ctx: Any, ops: Any, dy: torch.Tensor | None, _: Any) -> tuple:
    if dy is None:
        return (None,) * 10
    options = (ctx.eps, ctx.relu, ctx.up, ctx.training, ctx.group)
    dx, dgain, dbias = ops.conditional_batch_norm_backward(dy, *ctx.saved_tensors, *options)
    return dx, dgain, dbias, *(None,) * 7


library.define(
    "conditional_batch_norm",
    "(Tensor x, Tensor gain, Tensor bias, Tensor? mean, Tensor? var, float eps, bool relu, int up, bool training, "
    "str group) -> (Tensor, Tensor)",  # y; statistics [3, C]: mean, rstd, biased variance
    fake=lambda x, gain, bias, mean, var, eps, relu, up, training, group: (
        _empty_image(x, up),
        x.new_empty([3, x.shape[1]], dtype=_total(x)),
    ),
    setup_context=_setup_context,
    backward=_backward,
)


def _means(x: torch.Tensor, gain: torch.Tensor, p: torch.Tensor | None, sums: torch.Tensor, group: str) -> torch.Tensor:
    """What the batch's statistics add to a gradient: averages [2 or 7, C] in the order of csrc/math."""
    rows = [gain * sums[0], gain * sums[1]]
    if p is not None:
        rows += [sums[2], sums[3], gain * sums[4], p * sums[0], p * sums[1]]
    count = float(x.shape[0] * x.shape[2] * x.shape[3])
    if not group:
        return torch.stack(rows).sum(1) / count
    totals = torch.stack([*rows, torch.full_like(gain, count / max(1, x.shape[0]))]).double().sum(1)  # [3 or 8, C]
    dist.all_reduce(totals, group=_resolve(group))
    return (totals[:-1] / totals[-1]).to(gain.dtype)


def _compute_backward(
    ops: Any,
    dy: torch.Tensor,
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    relu: bool,
    up: int,
    training: bool,
    group: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One kernel; across processes two, with the exchange of two numbers per channel in between."""
    tensors, means = (dy, x, gain, bias, statistics), None
    if group:
        sums = ops.conditional_batch_norm_backward_sums(*tensors, None, relu, up)
        means = _means(x, gain, None, sums, group)
    dx, _, own = ops.conditional_batch_norm_backward_combine(*tensors, None, None, None, means, relu, up, training)
    sums = sums if group else own
    return dx, sums[1].clone(), sums[0].clone()


def _setup_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.eps, ctx.relu, ctx.up, ctx.training, ctx.group = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx: Any, ops: Any, ddx: Any, ddgain: Any, ddbias: Any) -> tuple:
    dy, x, gain, bias, statistics = ctx.saved_tensors
    ddx = torch.zeros_like(x) if ddx is None else ddx
    ddgain = torch.zeros_like(gain) if ddgain is None else ddgain
    ddbias = torch.zeros_like(gain) if ddbias is None else ddbias
    tensors = (ddx, ddgain, ddbias, dy, x, gain, bias, statistics)
    options = (ctx.eps, ctx.relu, ctx.up, ctx.training, ctx.group)
    grad_dy, grad_x, grad_gain = ops.conditional_batch_norm_backward_backward(*tensors, *options)
    return grad_dy, grad_x, grad_gain, *(None,) * 7


OPTIONS = "Tensor gain, Tensor bias, Tensor statistics, float eps, bool relu, int up, bool training, str group"
library.define(
    "conditional_batch_norm_backward",
    f"(Tensor dy, Tensor x, {OPTIONS}) -> (Tensor, Tensor, Tensor)",  # dx, dgain, dbias
    fake=lambda dy, x, gain, *_: (_empty_image(x, 1), torch.empty_like(gain), torch.empty_like(gain)),
    setup_context=_setup_backward_context,
    backward=_backward_backward,
    composite=_compute_backward,
)


def _compute_backward_backward(
    ops: Any,
    ddx: torch.Tensor,
    ddgain: torch.Tensor,
    ddbias: torch.Tensor,
    dy: torch.Tensor,
    x: torch.Tensor,
    gain: torch.Tensor,
    bias: torch.Tensor,
    statistics: torch.Tensor,
    eps: float,
    relu: bool,
    up: int,
    training: bool,
    group: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The gradients by dy, x and gain of sum(ddx dx) + sum(ddgain dgain) + sum(ddbias dbias)."""
    tensors, means = (dy, x, gain, bias, statistics), None
    if group:
        sums = ops.conditional_batch_norm_backward_sums(*tensors, ddx, relu, up)
        means = _means(x, gain, ddgain, sums, group)
    grad_x, grad_dy, own = ops.conditional_batch_norm_backward_combine(
        *tensors, ddx, ddgain, ddbias, means, relu, up, training
    )
    sums = sums if group else own
    rstd, grad_gain = statistics[1], sums[4]
    if training:
        means = _means(x, gain, ddgain, sums, "") if means is None else means
        grad_gain = grad_gain - means[2] * sums[0] - means[3] * sums[1]
    return grad_dy, grad_x, rstd * grad_gain


def _setup_backward_backward_context(ctx: Any, inputs: tuple, output: tuple) -> None:
    *tensors, ctx.eps, ctx.relu, ctx.up, ctx.training, ctx.group = inputs
    ctx.save_for_backward(*tensors)


def _third_order(ctx: Any, ops: Any, *gradients: torch.Tensor | None) -> tuple:
    """In plain PyTorch: the reference, differentiated three times."""
    higher = torch.is_grad_enabled()
    *tensors, statistics = ctx.saved_tensors
    with torch.enable_grad():
        ddx, ddgain, ddbias, dy, x, gain, bias = (
            t if higher and t.requires_grad else t.detach().requires_grad_() for t in tensors
        )
        mean, var = (None, None) if ctx.training else (statistics[0], statistics[2])
        group = _resolve(ctx.group) if ctx.group else None
        y, *_ = reference.conditional_batch_norm(x, gain, bias, mean, var, ctx.eps, ctx.relu, ctx.up, group, True)
        inputs = (x, gain, bias)
        first = torch.autograd.grad(y, inputs, dy, create_graph=True)
        cotangents = (ddx, ddgain, ddbias)
        second = torch.autograd.grad(first, (dy, x, gain), cotangents, create_graph=True, materialize_grads=True)
        pairs = [(s, g) for s, g in zip(second, gradients, strict=True) if g is not None and s.requires_grad]
        wanted = (*cotangents, dy, x, gain)
        outputs, weights = zip(*pairs, strict=True) if pairs else ((), ())
        third = torch.autograd.grad(outputs, wanted, weights, create_graph=higher, allow_unused=True)
    return *third, *(None,) * 7


library.define(
    "conditional_batch_norm_backward_backward",
    f"(Tensor ddx, Tensor ddgain, Tensor ddbias, Tensor dy, Tensor x, {OPTIONS}) -> (Tensor, Tensor, Tensor)",
    fake=lambda ddx, ddgain, ddbias, dy, x, gain, bias, statistics, eps, relu, up, training, group: (
        _empty_image(x, up),
        _empty_image(x, 1),
        torch.empty_like(gain),
    ),
    setup_context=_setup_backward_backward_context,
    backward=_third_order,
    composite=_compute_backward_backward,
)


def _fake_sums(dy: Any, x: torch.Tensor, gain: Any, bias: Any, statistics: Any, ddx: Any, relu: Any, up: Any) -> Any:
    return x.new_empty([2 if ddx is None else 5, x.shape[0], x.shape[1]], dtype=_total(x))


library.define(
    "conditional_batch_norm_backward_sums",
    "(Tensor dy, Tensor x, Tensor gain, Tensor bias, Tensor statistics, Tensor? ddx, bool relu, int up) -> Tensor",
    fake=_fake_sums,
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)


def _fake_combine(dy: Any, x: torch.Tensor, gain: Any, bias: Any, statistics: Any, ddx: Any, *options: Any) -> tuple:
    _, _, means, relu, up, _ = options
    sums = _fake_sums(dy, x, gain, bias, statistics, ddx, relu, up)
    grad_dy = x.new_empty([0]) if ddx is None else _empty_image(x, up)
    return _empty_image(x, 1), grad_dy, sums if means is None else sums.new_empty([0])


library.define(
    "conditional_batch_norm_backward_combine",
    "(Tensor dy, Tensor x, Tensor gain, Tensor bias, Tensor statistics, Tensor? ddx, Tensor? ddgain, Tensor? ddbias, "
    "Tensor? means, bool relu, int up, bool training) -> (Tensor, Tensor, Tensor)",
    fake=_fake_combine,
    setup_context=lambda ctx, inputs, output: None,
    backward=_no_derivative,
)
