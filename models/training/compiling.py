"""torch.compile for training: a phase's losses with their gradients, inner ones included, as one graph.

What torch.compile makes of a network cannot be differentiated twice, as the penalties need. So nothing that is
compiled is differentiated here: the whole computation, forward, inner gradient and backward, is recorded as one graph
of plain operations, which is then compiled. As with CUDA graphs, what the host decided is fixed in it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from .objectives import Batch
from .options import TrainingOptions
from .phases import Phase, accumulate_gradients
from .state import TrainingState
from .stats import Stats

TOLERANCE = 0.05  # of the gradients' size: a graph that is wrong is further off, bfloat16 is not

Graph = Callable[..., Sequence[Tensor]]


class CompiledGradients:
    """Runs in place of `accumulate_gradients`: a graph for each phase, stage of growing and size of batch.

    Each is compared with what it was made from, once, on the batch that it was made with. A phase that cannot be
    recorded or compiled, or does not compare, goes on as it is, and the reason is printed.

    Args:
        backend: Of torch.compile, its name or a function.
    """

    def __init__(self, backend: str | Callable[..., Any] = "inductor") -> None:
        self.backend = backend
        self.grown: object = None
        self.graphs: dict[object, _PhaseGraph] = {}
        self.refused: set[str] = set()

    def __call__(
        self, phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, share: float
    ) -> None:
        """Arguments as of `accumulate_gradients`."""
        if self.grown != state.grown:
            self.graphs.clear()
            self.grown = state.grown
        if phase.name in self.refused:
            return accumulate_gradients(phase, state, options, batch, share)
        key = phase.name, share, tuple(tensor.shape for tensor in batch)
        if key not in self.graphs:
            try:
                self.graphs[key] = _PhaseGraph(phase, state, options, batch, share, self.backend)
            except Exception as error:  # the compilers raise many types
                self.refused.add(phase.name)
                cause = getattr(error, "inner_exception", error)
                reason = f"{type(cause).__name__}: {cause}".partition("\n")[0]
                print(f"compile: phase {phase.name} cannot be compiled and runs without: {reason}")
                return accumulate_gradients(phase, state, options, batch, share)
        return self.graphs[key](state, batch)


class _PhaseGraph:
    """The compiled gradients of one phase for batches of one size."""

    def __init__(
        self,
        phase: Phase,
        state: TrainingState,
        options: TrainingOptions,
        batch: Batch,
        share: float,
        backend: str | Callable[..., Any],
    ) -> None:
        self.parameters = list(phase.net.parameters())
        self.used: list[Tensor] = []  # those that have a gradient
        self.statistics: list[tuple[str, str]] = []

        if options.sn_once:
            raise ValueError("weights that are normalised once for a step (sn_once) lie outside of what is compiled")

        def gradients(*tensors: Tensor) -> list[Tensor]:
            """Of the losses, then statistics; the tensors are those of `_inputs`, which the networks hold anyhow."""
            outer, state.stats = state.stats, Stats()
            try:
                total: dict[int, Tensor] = {}
                for loss in phase.losses(state, options, Batch(*tensors[-len(batch) :])):
                    loss = loss * (phase.interval * share)
                    found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
                    for k, gradient in enumerate(found):
                        if gradient is not None:
                            total[k] = total[k] + gradient if k in total else gradient
                values = state.stats.values
            finally:
                state.stats = outer
            self.used = [self.parameters[k] for k in total]
            self.statistics = [key for key, added in values.items() for _ in added]
            return [*total.values(), *(value for added in values.values() for value in added)]

        restore = _remember(state)
        try:
            inputs = _inputs(state, batch)
            traced = make_fx(gradients)(*inputs)
            restore()
            expected = gradients(*inputs)
            restore()
            # fallback_random: the random numbers are those of the uncompiled phase
            compiler: dict[str, Any] | None = {"fallback_random": True} if backend == "inductor" else None
            self.graph: Graph = torch.compile(traced, backend=backend, options=compiler, fullgraph=True, dynamic=False)
            with torch.no_grad():
                _compare(self.graph(*inputs)[: len(self.used)], expected[: len(self.used)])
        finally:
            restore()

    def __call__(self, state: TrainingState, batch: Batch) -> None:
        with torch.no_grad():
            found = self.graph(*_inputs(state, batch))
            gradients: Any = [parameter.grad for parameter in self.used]
            torch._foreach_add_(gradients, list(found[: len(self.used)]))
        for (phase, name), value in zip(self.statistics, found[len(self.used) :], strict=True):
            state.stats.add(phase, name, value)


def _compare(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Raises ArithmeticError if results differ by more than rounding, as a whole, in 16 bits, may make them."""
    norms = [torch.stack(torch._foreach_norm(list(tensors))).norm() for tensors in (_minus(found, expected), expected)]
    error, size = (float(norm) for norm in norms)
    if not error <= TOLERANCE * size:
        raise ArithmeticError(f"the compiled graph's results differ by {error / size:.2g} of their size")


def _minus(a: Sequence[Tensor], b: Sequence[Tensor]) -> list[Tensor]:
    return [x.float() - y.float() for x, y in zip(a, b, strict=True)]


def _held(state: TrainingState) -> list[Tensor]:
    """The parameters and buffers of a run's networks in training and its averages, each once."""
    tensors: list[Tensor] = []
    for name, value in vars(state).items():
        if isinstance(value, nn.Module) and name != "G_ema":
            tensors += [*value.parameters(), *value.buffers()]
        elif isinstance(value, Tensor) and not name.endswith("_gradients"):
            tensors.append(value)
    return list({id(tensor): tensor for tensor in tensors}.values())


def _inputs(state: TrainingState, batch: Batch) -> list[Tensor]:
    """All that a graph reads and changes; the batch last."""
    return [*_held(state), *batch]


def _remember(state: TrainingState) -> Callable[[], None]:
    """What puts buffers, averages and random states back to where they are now."""
    held = [tensor for tensor in _held(state) if not isinstance(tensor, nn.Parameter)]
    values = [tensor.clone() for tensor in held]
    cuda = torch.cuda.get_rng_state(state.device) if state.device.type == "cuda" else None
    cpu = torch.get_rng_state()

    def restore() -> None:
        with torch.no_grad():
            for tensor, value in zip(held, values, strict=True):
                tensor.copy_(value)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, state.device)

    return restore
