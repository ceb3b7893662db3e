"""What a run does when something around it fails: it goes on, goes back, or ends with a sentence."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from ..ranks import by_first_rank
from .checkpoint import load_newest, snapshots
from .options import TrainingOptions
from .run_folder import forget_after
from .state import TrainingState
from .stats import FINITE, Stats

MOST_ROLLBACKS = 3  # of one run
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED", "bad_alloc")


@contextlib.contextmanager
def going_on() -> Iterator[None]:
    """Makes a warning of a failure to write, or of a lack of memory: what can be had later does not end a run."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        if not isinstance(error, OSError) and not is_out_of_memory(error):
            raise
        warn(f"{last_line(error)}; going on")


@contextlib.contextmanager
def naming_what_needs_memory(phase: str, resolution: int, batch: int, batch_gpu: int) -> Iterator[None]:
    """Makes of a lack of memory, whoever reports it, a MemoryError that says what to change.

    Args:
        phase: What is being computed.
        resolution: Side of the images in pixels.
        batch: Images per step.
        batch_gpu: Images that go through the networks at once.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        at_once = min(batch_gpu, batch)
        smaller = f"--batch-gpu {at_once // 2}" if at_once > 1 else "--precision bf16 or a smaller --cfg"
        raise MemoryError(
            f"training: out of memory in phase {phase}, with {at_once} of {batch} images at once at"
            f" {resolution}x{resolution} pixels ({last_line(error)}); try {smaller}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory is short; on the CPU torch says it in words only."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def roll_back(state: TrainingState, options: TrainingOptions, run_dir: Path, error: FloatingPointError) -> None:
    """Brings a run with a NaN or an infinity back to its newest whole snapshot, and on another way from there.

    Args:
        state: Becomes that of the snapshot, but for its random numbers and `rollbacks`, which changes the data's order.
        options: The run's options.
        run_dir: The run's folder.
        error: What was found.

    Raises:
        FloatingPointError: `error`, where the options want no rollback, or none is possible, or there were too many.
    """
    if options.on_nan == "stop":
        raise error
    found = snapshots(run_dir)
    if not found:
        raise FloatingPointError(f"{error}, before the first snapshot") from error
    if state.rollbacks == MOST_ROLLBACKS:
        raise FloatingPointError(f"{error}, also after {MOST_ROLLBACKS} rollbacks") from error
    rollbacks = state.rollbacks + 1
    path, saved, _ = load_newest(found)
    state.load_state_dict(saved)
    state.rollbacks = rollbacks
    torch.manual_seed(options.seed + state.cur_nimg + rollbacks)
    state.random.begin([options.seed, state.cur_nimg, rollbacks])
    by_first_rank(forget_after, run_dir, state.cur_nimg)
    warn(f"{error}; going on from {path.name} with other random numbers (rollback {rollbacks} of {MOST_ROLLBACKS})")


def warn_of_gradients(stats: Stats) -> None:
    """Says in how many steps since the last tick gradients were not finite; they count as 0 there."""
    for (phase, name), finite in stats.read().items():
        if name.startswith(FINITE) and 0.0 in finite:
            bad = f"{finite.count(0.0)} of {len(finite)} steps"
            warn(f"in {bad} of phase {phase} gradients were NaN or infinite and were left out")


def warn(text: str) -> None:
    """Prints a line on stderr, if there is still somebody to read it."""
    with contextlib.suppress(OSError):
        print(f"warning: {text}", file=sys.stderr, flush=True)


def last_line(error: BaseException) -> str:
    """The last line of what an exception says; a data loader puts its worker's traceback before that."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1]
