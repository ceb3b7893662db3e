"""The training loop: steps, and what happens at the end of each tick and snapshot."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gankern

from .augment import adapt_augment
from .checkpoint import save_snapshot, snapshot_path
from .data import batches
from .ema import average_beta
from .growing import shrink
from .images import ImageData, to_float
from .objectives import Batch
from .options import TrainingOptions
from .phases import Phase, make_phases, run_phase
from .pictures import grid_columns, grid_inputs, write_reals, write_samples, write_timeline
from .progress import Progress
from .run_folder import append_stats
from .schedule import Stage, lod, stage
from .standing import with_standing_statistics
from .state import TrainingState

SHOWN = {"G": "Loss/G/loss", "D": "Loss/D/loss", "R1": "Loss/r1_penalty", "GP": "Loss/gp_penalty"}  # while training


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
    the end.

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
        FloatingPointError: A loss became NaN or infinite; nothing is written after it.
    """
    phases = make_phases(state, options)
    total_nimg, tick_nimg = round(options.kimg * 1000), max(round(options.tick_kimg * 1000), 1)
    reals = batches(data, images_of(options), options.seed, state.cur_nimg, options.mirror, workers)
    if state.cur_nimg == 0:
        write_reals(run_dir / "reals.png", data)
        write_fakes(run_dir, state, data, options)
    progress = Progress(state.cur_nimg, total_nimg)
    tick_start, tick_start_nimg = time.perf_counter(), state.cur_nimg
    while state.cur_nimg < total_nimg and not stop():
        before, now = state.cur_nimg, stage(options, state.cur_nimg)
        train_step(state, phases, options, data, *next(reals))
        progress.step(state.cur_nimg)
        if now.resolution != stage(options, state.cur_nimg).resolution:
            write_fakes(run_dir, state, data, options)  # what this resolution has come to
        tick = state.cur_nimg // tick_nimg
        if tick > before // tick_nimg:
            rate = (state.cur_nimg - tick_start_nimg) / (time.perf_counter() - tick_start)
            end_tick(state, options, now, run_dir, progress, rate)
            if tick % options.image_snap == 0:
                write_fakes(run_dir, state, data, options)
            if tick % options.snap == 0 and state.cur_nimg < total_nimg:
                save_snapshot(snapshot_path(run_dir, state.cur_nimg), state.state_dict(), config)
            after_tick(tick)
            tick_start, tick_start_nimg = time.perf_counter(), state.cur_nimg
    state.stats.read()  # a loss that is not finite must not reach a snapshot
    save_snapshot(snapshot_path(run_dir, state.cur_nimg), state.state_dict(), config)
    write_fakes(run_dir, state, data, options)
    progress.close(state.cur_nimg)
    return progress.images_per_second(state.cur_nimg)


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
            run_phase(phase, state, options, batch, now.batch_gpu)
    adapt_augment(state, options, now)
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
    """Gives a function that says whether SIGINT or SIGTERM came; a second SIGINT interrupts at once."""
    received: list[int] = []

    def handler(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _move(x: Tensor, device: torch.device) -> Tensor:
    """Moves a CPU tensor to the device without waiting for it."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x
