"""The training loop: steps, and what happens at the end of each tick and snapshot."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gankern

from .. import watch
from ..ranks import from_first_rank, rank, world_size
from .augment import adapt_augment
from .checkpoint import check_finite, remove_old, save_snapshot, snapshot_path
from .data import batches
from .ema import average_beta
from .faults import going_on, last_line, naming_what_needs_memory, roll_back, warn_of_gradients
from .growing import shrink
from .images import ImageData, to_float
from .objectives import Batch
from .options import TrainingOptions
from .phases import Phase, make_phases, run_phase
from .pictures import grid_columns, grid_inputs, write_reals, write_samples, write_timeline
from .recorder import Recorder
from .run_folder import restore
from .schedule import Stage, stage
from .standing import with_standing_statistics
from .state import TrainingState
from .trackers import Tracker

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
    trackers: Sequence[Tracker] = (),
) -> float:
    """Trains from `state` to the end of the run, or until `stop`.

    Leaves in the run folder a line of stats.jsonl per tick, and sample grids, the report and snapshots at their
    intervals and at the end. What cannot be written is a warning and is tried again at the next tick, but for the last
    snapshot.

    Args:
        state: Networks, optimisers and position; changed in place.
        data: Real images.
        options: The run's options.
        run_dir: Where to write.
        config: Saved with each snapshot.
        workers: Processes that read images.
        stop: Asked after each step.
        after_tick: Called with the number of each tick when it is over.
        trackers: Who else is told what the run shows.

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
            return _train(state, data, options, run_dir, config, workers, stop, after_tick, trackers)
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
    trackers: Sequence[Tracker],
) -> float:
    phases = make_phases(state, options)
    total_nimg, tick_nimg = round(options.kimg * 1000), max(round(options.tick_kimg * 1000), 1)
    order = images_of(options), options.seed + state.rollbacks, state.cur_nimg, options.mirror
    reals = batches(data, *order, workers, pin_memory=state.device.type == "cuda")
    unreadable: Exception | None = None
    snapshot_due = False
    recorder = Recorder(run_dir, state, options, trackers)
    fakes = partial(write_fakes, run_dir, state, data, options)
    if state.cur_nimg == 0:
        recorder.reals(lambda: write_reals(run_dir / "reals.png", data))
        recorder.pictures(fakes)
    recorder.begin_tick()
    while state.cur_nimg < total_nimg and not stop():
        before, now = state.cur_nimg, stage(options, state.cur_nimg)
        try:
            with state.timer.host("data"):
                images, labels = next(reals)
        except Exception as error:  # a data set may raise anything
            if world_size() > 1:
                raise  # the other ranks go on to a step that this one cannot take: they must be told at once
            unreadable = error
            break
        train_step(state, phases, options, data, images, labels)
        recorder.step(now)
        if now.resolution != stage(options, state.cur_nimg).resolution:
            recorder.pictures(fakes)  # what this resolution has come to
        tick = state.cur_nimg // tick_nimg
        if tick > before // tick_nimg:
            warn_of_gradients(state.stats)
            recorder.end_tick(now)
            if tick % options.image_snap == 0:
                recorder.pictures(fakes)
            snapshot_due |= tick % options.snap == 0
            if snapshot_due and state.cur_nimg < total_nimg:
                with state.timer.host("snapshot"):
                    snapshot_due = not try_snapshot(run_dir, state, options, config)
            with going_on():
                after_tick(tick)
            recorder.metrics()
            recorder.begin_tick()
    state.stats.read()  # a loss that is not finite must not reach a snapshot
    write_snapshot(run_dir, state, options, config)
    recorder.close(fakes)
    if unreadable is not None:
        raise ValueError(f"training: the data cannot be read ({last_line(unreadable)})") from unreadable
    return recorder.pace.images_per_second()


def write_snapshot(run_dir: Path, state: TrainingState, options: TrainingOptions, config: dict[str, Any]) -> None:
    """Writes the snapshot of this moment, and deletes those that the options do not want to keep any more.

    Every rank must call it; the first one writes.

    Raises:
        FloatingPointError: The state holds a NaN or an infinity.
        OSError: It cannot be written.
    """
    content = state.state_dict()
    if rank() > 0:
        check_finite(content)  # as the first one does, so that a NaN is found by all or none
        return
    with watch.busy():
        restore(run_dir, config)
        save_snapshot(snapshot_path(run_dir, state.cur_nimg), content, config)
        if options.keep is not None:
            with going_on():
                remove_old(run_dir, options.keep)


def try_snapshot(run_dir: Path, state: TrainingState, options: TrainingOptions, config: dict[str, Any]) -> bool:
    """`write_snapshot`, of which a failure is a warning; returns to every rank whether the first one wrote."""
    written = False
    with going_on():
        write_snapshot(run_dir, state, options, config)
        written = True
    return from_first_rank(written)


def train_step(
    state: TrainingState, phases: list[Phase], options: TrainingOptions, data: ImageData, images: Tensor, labels: Tensor
) -> None:
    """One iteration: the phases that are due, the average, the count of images.

    Args:
        state: Changed in place.
        phases: Of `make_phases`.
        options: The run's options.
        data: Source of the labels of generated images.
        images: This rank's real images uint8 [d_steps * batch / ranks, C, H, W].
        labels: Their labels float32 [d_steps * batch / ranks, c_dim].
    """
    now = stage(options, state.cur_nimg)
    state.enter(now, options)
    per_step = now.batch // world_size()
    real_img = shrink(to_float(_move(images, state.device)), state.D, now).split(per_step)  # [N, C, h, w] each
    real_c = _move(labels, state.device).split(per_step)
    for part in options.order:
        if part == "ema":
            beta = average_beta(options, now, state.cur_nimg)
            with state.timer.phase("ema"):
                gankern.ema_update(state.G_ema, state.G, beta, buffers=options.ema_buffers)
        for step, phase in due_phases(phases, part, options, now):
            z = state.random.latents(now.batch, state.G.z_dim)  # [N, z_dim], N = batch / ranks
            c = state.random.labels(data, now.batch)  # [N, c_dim]
            batch = Batch(real_img[step], real_c[step], z, _move(c, state.device))
            with (
                naming_what_needs_memory(phase.name, real_img[step].shape[-1], now.batch, now.batch_gpu),
                state.timer.phase(phase.name),
            ):
                run_phase(phase, state, options, batch, now.batch_gpu)
    adapt_augment(state, options, now)
    state.cur_nimg += now.batch * options.d_steps


def due_phases(phases: list[Phase], part: str, options: TrainingOptions, now: Stage) -> Iterator[tuple[int, Phase]]:
    """The phases of G or D in this iteration, each with the number of the step within the iteration, from 0."""
    steps = options.d_steps if part == "D" else 1
    for step in range(steps):
        for phase in phases:
            if phase.part == part and (now.iteration * steps + step) % phase.interval == 0:
                yield step, phase


def images_of(options: TrainingOptions) -> Callable[[int], int]:
    """How many real images the iteration takes that begins after so many."""
    return lambda cur_nimg: stage(options, cur_nimg).batch * options.d_steps


def write_fakes(run_dir: Path, state: TrainingState, data: ImageData, options: TrainingOptions) -> Path:
    """Writes the sample grid of this moment, and the timeline up to it; returns the grid's path.

    Its name is fakesNNNNNN.png, NNNNNN in kimg; while networks grow fakesNNNNNN-RxR.png with their resolution R.
    """
    z, c = grid_inputs(data, state.G.z_dim, options.seed)
    size = f"-{state.grown[0]}x{state.grown[0]}" if state.grown else ""
    path = run_dir / f"fakes{state.cur_nimg // 1000:06d}{size}.png"
    G_ema = with_standing_statistics(state.G_ema, options.standing_batches, options.batch)
    write_samples(path, G_ema, z, c, grid_columns(data))
    write_timeline(run_dir)
    return path


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
