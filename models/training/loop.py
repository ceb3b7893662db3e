"""The training loop: steps, and what happens at the end of each tick and snapshot."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gankern

from .checkpoint import remove_old, save_snapshot, snapshot_path
from .data import batches
from .ema import average_beta
from .faults import going_on, last_line, naming_what_needs_memory, roll_back, warn_of_gradients
from .growing import shrink
from .images import ImageData, to_float
from .objectives import Batch
from .options import TrainingOptions
from .phases import Phase, make_phases, run_phase
from .pictures import grid_columns, grid_inputs, write_reals, write_samples, write_timeline
from .progress import Progress
from .run_folder import append_stats, restore
from .schedule import Stage, lod, stage
from .standing import with_standing_statistics
from .state import TrainingState

SHOWN = {"G": "Loss/G/loss", "D": "Loss/D/loss", "R1": "Loss/r1_penalty", "GP": "Loss/gp_penalty"}  # while training
STOPPING = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")  # Windows lacks the last two
SIGHUP = getattr(signal, "SIGHUP", None)


def train(
    state: TrainingState,
    data: ImageData,
    options: TrainingOptions,
    run_dir: Path,
    config: dict[str, Any],
    workers: int = 0,
    stop: Callable[[], bool] = lambda: False,
    after_tick: Callable[[int], None] = lambda tick: None,
) -> float:
    """Trains from `state` to the end of the run, or until `stop`.

    Leaves in the run folder a line of stats.jsonl per tick, and sample grids and snapshots at their intervals and at
    the end. What cannot be written is a warning and is tried again at the next tick, but for the last snapshot.

    Args:
        state: Networks, optimisers and position; changed in place.
        data: Real images.
        options: The run's options.
        run_dir: Where to write.
        config: Saved with each snapshot.
        workers: Processes that read images.
        stop: Asked after each step.
        after_tick: Called with the number of each tick when it is over.

    Returns:
        Real images per second of wall time, pictures and snapshots included.

    Raises:
        FloatingPointError: A loss became NaN or infinite, and `on_nan` does not help; nothing is written after it.
        ValueError: The data cannot be read any more; there is a snapshot of all that was learnt from it.
        MemoryError: A step needs more memory than there is; the message says what to change.
        OSError: The last snapshot cannot be written.
    """
    while True:
        try:
            return _train(state, data, options, run_dir, config, workers, stop, after_tick)
        except FloatingPointError as error:
            roll_back(state, options, run_dir, error)


def _train(
    state: TrainingState,
    data: ImageData,
    options: TrainingOptions,
    run_dir: Path,
    config: dict[str, Any],
    workers: int,
    stop: Callable[[], bool],
    after_tick: Callable[[int], None],
) -> float:
    phases = make_phases(state, options)
    total_nimg, tick_nimg = round(options.kimg * 1000), max(round(options.tick_kimg * 1000), 1)
    seed = options.seed + state.rollbacks
    reals = batches(data, images_of(options), seed, state.cur_nimg, options.mirror, workers)
    unreadable: Exception | None = None
    snapshot_due = False
    if state.cur_nimg == 0:
        with going_on():
            write_reals(run_dir / "reals.png", data)
            write_fakes(run_dir, state, data, options)
    progress = Progress(state.cur_nimg, total_nimg)
    tick_start, tick_start_nimg = time.perf_counter(), state.cur_nimg
    while state.cur_nimg < total_nimg and not stop():
        before, now = state.cur_nimg, stage(options, state.cur_nimg)
        try:
            images, labels = next(reals)
        except Exception as error:  # a data set may raise anything
            unreadable = error
            break
        train_step(state, phases, options, data, images, labels)
        with going_on():
            progress.step(state.cur_nimg)
            if now.resolution != stage(options, state.cur_nimg).resolution:
                write_fakes(run_dir, state, data, options)  # what this resolution has come to
        tick = state.cur_nimg // tick_nimg
        if tick > before // tick_nimg:
            rate = (state.cur_nimg - tick_start_nimg) / max(time.perf_counter() - tick_start, 1e-9)
            warn_of_gradients(state.stats)
            with going_on():
                end_tick(state, options, now, run_dir, progress, rate)
            with going_on():
                if tick % options.image_snap == 0:
                    write_fakes(run_dir, state, data, options)
            snapshot_due |= tick % options.snap == 0
            if snapshot_due and state.cur_nimg < total_nimg:
                with going_on():
                    write_snapshot(run_dir, state, options, config)
                    snapshot_due = False
            with going_on():
                after_tick(tick)
            tick_start, tick_start_nimg = time.perf_counter(), state.cur_nimg
    state.stats.read()  # a loss that is not finite must not reach a snapshot
    write_snapshot(run_dir, state, options, config)
    with going_on():
        write_fakes(run_dir, state, data, options)
        progress.close(state.cur_nimg)
    if unreadable is not None:
        raise ValueError(f"training: the data cannot be read ({last_line(unreadable)})") from unreadable
    return progress.images_per_second(state.cur_nimg)


def write_snapshot(run_dir: Path, state: TrainingState, options: TrainingOptions, config: dict[str, Any]) -> None:
    """Writes the snapshot of this moment, and deletes those that the options do not want to keep any more.

    Raises:
        FloatingPointError: The state holds a NaN or an infinity.
        OSError: It cannot be written.
    """
    restore(run_dir, config)
    save_snapshot(snapshot_path(run_dir, state.cur_nimg), state.state_dict(), config)
    if options.keep is not None:
        with going_on():
            remove_old(run_dir, options.keep)


def train_step(
    state: TrainingState, phases: list[Phase], options: TrainingOptions, data: ImageData, images: Tensor, labels: Tensor
) -> None:
    """One iteration: the phases that are due, the average, the count of images.

    Args:
        state: Changed in place.
        phases: Of `make_phases`.
        options: The run's options.
        data: Source of the labels of generated images.
        images: Real images uint8 [d_steps * batch, C, H, W].
        labels: Their labels float32 [d_steps * batch, c_dim].
    """
    now = stage(options, state.cur_nimg)
    state.enter(now, options)
    real_img = shrink(to_float(_move(images, state.device)), state.D, now).split(now.batch)  # [N, C, h, w] each
    real_c = _move(labels, state.device).split(now.batch)
    for part in options.order:
        if part == "ema":
            beta = average_beta(options, now, state.cur_nimg)
            gankern.ema_update(state.G_ema, state.G, beta, buffers=options.ema_buffers)
        for step, phase in due_phases(phases, part, options, now):
            z = torch.randn(now.batch, state.G.z_dim, device=state.device)
            c = data.encode_labels(torch.randint(len(data), (now.batch,)).numpy())  # [N, c_dim]
            batch = Batch(real_img[step], real_c[step], z, _move(c, state.device))
            with naming_what_needs_memory(phase.name, real_img[step].shape[-1], now.batch, now.batch_gpu):
                run_phase(phase, state, options, batch, now.batch_gpu)
    state.cur_nimg += len(images)


def due_phases(phases: list[Phase], part: str, options: TrainingOptions, now: Stage) -> Iterator[tuple[int, Phase]]:
    """The phases of G or D in this iteration, each with the number of the step within the iteration, from 0."""
    steps = options.d_steps if part == "D" else 1
    for step in range(steps):
        for phase in phases:
            if phase.part == part and (now.iteration * steps + step) % phase.interval == 0:
                yield step, phase


def end_tick(
    state: TrainingState,
    options: TrainingOptions,
    now: Stage,
    run_dir: Path,
    progress: Progress,
    images_per_sec: float,
) -> None:
    """Reads the tick's statistics, writes their line, and shows them."""
    summary = state.stats.summary()
    single = {"Progress/kimg": state.cur_nimg / 1000, "Timing/images_per_sec": images_per_sec}
    if now.resolution is not None:
        single |= {
            "Progress/resolution": now.resolution,
            "Progress/alpha": now.alpha,
            "Progress/lod": lod(options, now),
        }
    for name, value in single.items():
        summary[name] = {"num": 1, "mean": value, "std": 0.0}
    append_stats(run_dir, summary)
    shown = [f"{text} {summary[name]['mean']:.2f}" for text, name in SHOWN.items() if name in summary]
    if now.resolution is not None:
        fading = f" fading in, alpha {now.alpha:.2f}" if now.fading else ""
        shown.insert(0, f"{now.resolution}x{now.resolution}{fading}")
    progress.tick(state.cur_nimg, "  ".join(shown))


def images_of(options: TrainingOptions) -> Callable[[int], int]:
    """How many real images the iteration takes that begins after so many."""
    return lambda cur_nimg: stage(options, cur_nimg).batch * options.d_steps


def write_fakes(run_dir: Path, state: TrainingState, data: ImageData, options: TrainingOptions) -> None:
    """Writes the sample grid of this moment, and the timeline up to it.

    Its name is fakesNNNNNN.png, NNNNNN in kimg; while networks grow fakesNNNNNN-RxR.png with their resolution R.
    """
    z, c = grid_inputs(data, state.G.z_dim, options.seed)
    size = f"-{state.grown[0]}x{state.grown[0]}" if state.grown else ""
    path = run_dir / f"fakes{state.cur_nimg // 1000:06d}{size}.png"
    G_ema = with_standing_statistics(state.G_ema, options.standing_batches, options.batch)
    write_samples(path, G_ema, z, c, grid_columns(data))
    write_timeline(run_dir)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether the run was asked to stop; a second SIGINT interrupts at once.

    SIGINT is Ctrl-C, SIGTERM and SIGUSR1 are what schedulers send before they take a machine back, SIGHUP is a terminal
    that goes away, unless nohup has it ignored.
    """
    received: list[int] = []

    def handler(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGINT:
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstopping after this step; Ctrl-C again interrupts at once\n")

    asked = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
    asked = [number for number in asked if number != SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in asked}
    try:
        yield lambda: bool(received)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _move(x: Tensor, device: torch.device) -> Tensor:
    """Moves a CPU tensor to the device without waiting for it."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x
