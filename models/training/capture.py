"""CUDA graphs: a phase is recorded once and then replayed, and the host launches one graph in place of its kernels.

What a graph computes is fixed when it is recorded, but for the contents of the memory it reads. So all that changes
from step to step is in memory that stays: the batch, which is copied there; parameters, gradients, the optimisers'
moments, counts and learning rates; averages, fading weights, and the states of the random generators, which PyTorch
advances at each replay. Which phase is due, and the average of the weights, stay with the host.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from .objectives import Batch
from .optimiser import make_capturable
from .options import TrainingOptions
from .phases import Phase, take_step
from .state import TrainingState
from .stats import Stats

WARMUP = 3  # steps before a phase is recorded: its optimiser makes its state, libraries choose their routines

Step = Callable[[], None]


class Recorder(Protocol):
    """What records steps."""

    def warm_up(self, step: Step) -> None:
        """Runs a step as it is, where it will be recorded later."""

    def capture(self, step: Step) -> Step:
        """Records a step without running it, and returns what runs it."""


class CudaRecorder:
    """Records on a stream of its own, all steps in one pool of memory.

    The pool may be shared because steps pass nothing to each other but what was allocated before they were recorded.
    Autograd runs a backward pass on the streams of the forward pass, so that warming up is on the same stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Step) -> None:
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            step()
        torch.cuda.current_stream().wait_stream(self.stream)

    def capture(self, step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        # thread_local: the threads that pin images go on meanwhile
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
            step()
        return graph.replay


@dataclass
class _Recording:
    """A phase at one stage of the schedule, and the memory that its graph reads and writes."""

    batch: Batch
    values: dict[tuple[str, str], list[Tensor]] = field(default_factory=dict)  # the statistics of the last step
    steps: int = 0
    replay: Step | None = None
    failed: bool = False


class CapturedPhases:
    """Runs phases in place of `take_step`: the first steps of each as they are, the others as replays.

    A phase is recorded anew when networks grow or the sizes of a batch change. One that cannot be recorded goes on as
    it is, and the reason is printed.

    Args:
        recorder: `CudaRecorder`.
        step: What a phase does.
    """

    def __init__(self, recorder: Recorder, step: Callable[..., None] = take_step) -> None:
        self.recorder = recorder
        self.step = step
        self.grown: object = None
        self.recordings: dict[object, _Recording] = {}

    def __call__(
        self, phase: Phase, state: TrainingState, options: TrainingOptions, batch: Batch, batch_gpu: int | None
    ) -> None:
        """Arguments as of `take_step`."""
        if self.grown != state.grown:
            self.forget()
            self.grown = state.grown
        shapes = tuple(tensor.shape for tensor in batch)
        recording = self.recordings.get((phase.name, batch_gpu, shapes))
        if recording is None:
            static = Batch(*(torch.empty_like(tensor) for tensor in batch))
            recording = self.recordings[phase.name, batch_gpu, shapes] = _Recording(static)
        for tensor, given in zip(recording.batch, batch, strict=True):
            tensor.copy_(given)

        def step() -> None:
            outer, state.stats = state.stats, Stats()
            try:
                self.step(phase, state, options, recording.batch, batch_gpu)
                found = state.stats.values
            finally:
                state.stats = outer
            if recording.steps == 0:
                recording.values = {key: [torch.empty_like(value) for value in values] for key, values in found.items()}
            for key, values in found.items():
                for kept, value in zip(recording.values[key], values, strict=True):
                    kept.copy_(value)

        self._run(phase.name, recording, step)
        for (name, statistic), values in recording.values.items():
            for value in values:
                state.stats.add(name, statistic, value.clone())

    def _run(self, name: str, recording: _Recording, step: Step) -> None:
        if recording.steps >= WARMUP and recording.replay is None and not recording.failed:
            try:
                recording.replay = self.recorder.capture(step)
            except RuntimeError as error:
                recording.failed = True
                reason = str(error).partition("\n")[0]
                print(f"CUDA graphs: phase {name} cannot be captured and runs without: {reason}")
        if recording.replay is None:
            self.recorder.warm_up(step)
        else:
            recording.replay()
        recording.steps += 1

    def forget(self) -> None:
        """Drops all recordings and their memory."""
        self.recordings.clear()


def capture_phases(state: TrainingState, recorder: Recorder | None = None) -> None:
    """Makes a run replay its phases.

    Args:
        state: Changed in place: its optimisers keep their learning rates on the device.
        recorder: None for CUDA's.

    Raises:
        ValueError: The run is not on a GPU.
    """
    if recorder is None:
        if state.device.type != "cuda":
            raise ValueError(f"CUDA graphs need a GPU, got {state.device}")
        recorder = CudaRecorder(state.device)
    for opt in (state.G_opt, state.D_opt):
        make_capturable(opt)
    state.captured = CapturedPhases(recorder)
