"""define(): one op into torch.library, with its schema, its shape rule and its derivative.

Every op exists twice, `torch.ops.gankern.<op>` (C++) and `torch.ops.gankern_triton.<op>`, with one schema, one fake
kernel and one derivative. The derivative is written in terms of the ops of its own namespace, so a gradient, and the
gradient of that gradient, stay on the backend of the forward pass.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

NAMESPACES = {"native": "gankern", "triton": "gankern_triton"}
LIBRARIES = {namespace: torch.library.Library(namespace, "DEF") for namespace in NAMESPACES.values()}

_inputs_only = 0  # how many are inside, of all threads: who entered first may leave first


if hasattr(os, "register_at_fork"):
    # A fork copies OpenMP's records of its threads, but not the threads: a child that asks for them waits for ever, in
    # torch's loops as in ours. One thread needs none; torch's DataLoader does the same in its workers.
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def ops(backend: str) -> Any:
    """The namespace of a backend's ops: `ops("native").bias_act(...)`."""
    return getattr(torch.ops, NAMESPACES[backend])


def define(
    name: str,
    schema: str,
    *,
    fake: Callable[..., Any],
    setup_context: Callable[[Any, tuple, Any], None] | None = None,
    backward: Callable[..., Any] | None = None,
    parameters: Sequence[int] = (),
    module: str | None = None,
    composite: Callable[..., Any] | None = None,
) -> None:
    """Defines one op for the kernel backends.

    Args:
        name: of the op; `schema` is its signature, "(Tensor x, float gain) -> Tensor". With lists of tensors in it,
            gradients come and go as lists too: the gradient of a list is a list of tensors or None.
        fake: the same signature on FakeTensors: shapes, dtypes and strides of the result, no data.
        setup_context: (ctx, inputs, output) -> None, saves what the derivative needs.
        backward: (ctx, ops, *gradients) -> one gradient or None per input; `ops` is the namespace of the forward.
            None for an op that has no gradient; one that writes to its inputs, "Tensor(a!)[] us", must be such.
        parameters: positions of inputs that are leaf parameters in a network, whose gradient a gradient penalty
            does not want. `backward` asks `wanted(ctx, i)` before it computes one.
        module: of `gankern.triton` with the kernel; the part of `name` before "_backward" if None.
        composite: (ops, *inputs) -> the result, for an op that has no kernels of its own but calls those of others
            and must be differentiated as a whole.
    """
    for namespace, library in LIBRARIES.items():
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)
        if setup_context is None or backward is None:
            _attach_no_autograd(library, namespace, name)
        else:
            attach = _attach_autograd_to_lists if re.search(r"Tensor\S*\[\]", schema) else _attach_autograd
            attach(library, namespace, name, setup_context, backward, parameters)
        if composite is not None:
            for device in ("CPU", "CUDA"):
                library.impl(name, functools.partial(composite, getattr(torch.ops, namespace)), device)
    if composite is None:
        _attach_triton(name, module or name.split("_backward")[0])


def _attach_triton(name: str, module: str) -> None:
    """Registers `gankern.triton.<module>.<name>`, imported at its first call; on the CPU only in the interpreter."""

    def launch(*inputs: Any) -> Any:
        return getattr(importlib.import_module(f"gankern.triton.{module}"), name)(*inputs)

    for device in ("CUDA", "CPU") if os.environ.get("TRITON_INTERPRET") == "1" else ("CUDA",):
        LIBRARIES["gankern_triton"].impl(name, launch, device)


def _attach_autograd(
    library: torch.library.Library,
    namespace: str,
    name: str,
    setup_context: Callable[[Any, tuple, Any], None],
    derivative: Callable[..., Any],
    parameters: Sequence[int],
) -> None:
    """Puts a torch.autograd.Function behind the dispatcher's Autograd key.

    Behind the dispatcher torch.compile sees one opaque op and runs the real formula. An autograd.Function that
    Dynamo sees directly loses its second-order graph silently.
    """
    op = getattr(getattr(torch.ops, namespace), name).default
    own_ops = getattr(torch.ops, namespace)

    def forward(ctx: Any, *inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            output = op(*inputs)
        ctx.set_materialize_grads(False)
        # A node has an edge for each tensor among its inputs, not for what is None or a number.
        ctx.parameters = {i: sum(isinstance(a, torch.Tensor) for a in inputs[:i]) for i in parameters}
        setup_context(ctx, inputs, output)
        return output

    def backward(ctx: Any, *gradients: Any) -> Any:
        return derivative(ctx, own_ops, *gradients)

    node: Any = type(
        f"{namespace}_{name}",
        (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward)},
    )

    def autograd(*inputs: Any) -> Any:
        differentiable = torch.is_grad_enabled() and any(
            isinstance(a, torch.Tensor) and a.requires_grad for a in inputs
        )
        # Inside forward-mode AD the node raises, for it has no jvp; going past it would drop the tangents silently.
        if differentiable or torch.autograd.forward_ad._current_level >= 0:
            return node.apply(*inputs)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    library.impl(name, autograd, "Autograd")


def _attach_autograd_to_lists(
    library: torch.library.Library,
    namespace: str,
    name: str,
    setup_context: Callable[[Any, tuple, Any], None],
    derivative: Callable[..., Any],
    parameters: Sequence[int],
) -> None:
    """The same for an op with lists of tensors, which a torch.autograd.Function gets flat, for it looks into none."""
    op = getattr(getattr(torch.ops, namespace), name).default
    own_ops = getattr(torch.ops, namespace)

    def forward(ctx: Any, specs: list[pytree.TreeSpec], *flat: Any) -> tuple:
        inputs = pytree.tree_unflatten(flat, specs[0])
        with torch._C._AutoDispatchBelowAutograd():
            output = op(*inputs)
        leaves, spec = pytree.tree_flatten(output)
        specs.append(spec)
        ctx.spec = spec
        ctx.set_materialize_grads(False)
        ctx.parameters = parameters
        setup_context(ctx, inputs, output)
        return tuple(leaves)

    def backward(ctx: Any, *flat: Any) -> tuple:
        gradients = pytree.tree_unflatten(flat, ctx.spec)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return None, *pytree.tree_leaves(derivative(ctx, own_ops, *gradients))

    node: Any = type(
        f"{namespace}_{name}",
        (torch.autograd.Function,),
        {"forward": staticmethod(forward), "backward": staticmethod(backward)},
    )

    def autograd(*inputs: Any) -> Any:
        flat, spec = pytree.tree_flatten(inputs)
        differentiable = torch.is_grad_enabled() and any(isinstance(a, torch.Tensor) and a.requires_grad for a in flat)
        if differentiable or torch.autograd.forward_ad._current_level >= 0:
            specs = [spec]
            output = node.apply(specs, *flat)
            return pytree.tree_unflatten(output, specs[1])
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    library.impl(name, autograd, "Autograd")


def _attach_no_autograd(library: torch.library.Library, namespace: str, name: str) -> None:
    """Results without a gradient; what the op writes to counts as changed, so that a stale saved tensor is an error."""
    op = getattr(getattr(torch.ops, namespace), name).default
    written = [i for i, a in enumerate(op._schema.arguments) if a.alias_info is not None and a.alias_info.is_write]

    def run(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            output = op(*inputs)
        for i in written:
            torch.autograd.graph.increment_version(inputs[i])
        return output

    library.impl(name, run, "Autograd")


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """Of the results of an op on images: channels_last if channels are neighbours and pixels at least C apart.

    The rule of is_channels_last in csrc/bind/tensor.h, for fake kernels.
    """
    channels = x.shape[1]
    is_last = channels > 1 and x.stride(1) == 1 and x.stride(3) >= channels
    return torch.channels_last if is_last else torch.contiguous_format


def differentiate(
    function: Callable[..., Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor | None],
    gradients: Sequence[torch.Tensor | None],
) -> list[torch.Tensor | None]:
    """The gradients of a function in plain PyTorch, for the derivative of the last op that has kernels.

    Args:
        function: of `inputs`, each a tensor or None; what it does, autograd can follow.
        gradients: of its results; None for zero.

    Returns:
        One gradient per input, or None; differentiable where the inputs are and gradients are recorded.
    """
    recording = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: an input may depend on another one, which must not count here.
        own = [t if t is None else t.view_as(t) if recording and t.requires_grad else t.detach() for t in inputs]
        own = [t if t is None or t.requires_grad else t.requires_grad_() for t in own]
        pairs = [(y, g) for y, g in zip(function(*own), gradients, strict=True) if g is not None and y.requires_grad]
        wrt = [t for t in own if t is not None]
        found = iter(
            torch.autograd.grad(
                [y for y, _ in pairs], wrt, [g for _, g in pairs], create_graph=recording, allow_unused=True
            )
        )
    return [None if t is None else next(found) for t in own]


@contextmanager
def inputs_only() -> Iterator[None]:
    """Backward passes inside compute no gradients of leaf parameters through gankern's ops.

    For the inner gradient of a penalty, `torch.autograd.grad(D(x).sum(), x, create_graph=True)`: it saves work and
    changes no result. torch's own ops do so by themselves; a Python derivative has to be told. Process-wide.
    """
    global _inputs_only
    _inputs_only += 1
    try:
        yield
    finally:
        _inputs_only -= 1


def wanted(ctx: Any, i: int) -> bool:
    """Whether this very backward pass wants the gradient of input `i`."""
    if not ctx.needs_input_grad[i]:
        return False
    if i not in ctx.parameters:
        return True
    node = ctx.next_functions[ctx.parameters[i]][0]
    if node is None or "AccumulateGrad" in node.name():
        return _inputs_only == 0
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # while tracing there is no engine to ask; unused results are removed from the graph
        return True
