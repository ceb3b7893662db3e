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

from .checkpoint import save_snapshot, snapshot_path
from .data import batches
from .ema import ema_beta
from .images import ImageData, to_float
from .options import TrainingOptions
from .phases import Batch, Phase, make_phases, run_phase
from .pictures import grid_columns, grid_inputs, write_reals, write_samples, write_timeline
from .progress import Progress
from .run_folder import append_stats
from .state import TrainingState


def train(
    state: TrainingState,
    data: ImageData,
    options: TrainingOptions,
    run_dir: Path,
    config: dict[str, Any],
    workers: int = 0,
    stop: Callable[[], bool] = lambda: False,
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

    Returns:
        Real images per second of wall time, pictures and snapshots included.

    Raises:
        FloatingPointError: A loss became NaN or infinite; nothing is written after it.
    """
    phases = make_phases(state, options)
    total_nimg, tick_nimg = round(options.kimg * 1000), max(round(options.tick_kimg * 1000), 1)
    reals = batches(data, options.batch, options.seed, state.cur_nimg, options.mirror, workers)
    if state.cur_nimg == 0:
        write_reals(run_dir / "reals.png", data)
        write_fakes(run_dir, state, data, options)
    progress = Progress(state.cur_nimg, total_nimg)
    tick_start, tick_start_nimg = time.perf_counter(), state.cur_nimg
    while state.cur_nimg < total_nimg and not stop():
        train_step(state, phases, options, data, *next(reals))
        progress.step(state.cur_nimg)
        tick = state.cur_nimg // tick_nimg
        if tick > (state.cur_nimg - options.batch) // tick_nimg:
            rate = (state.cur_nimg - tick_start_nimg) / (time.perf_counter() - tick_start)
            end_tick(state, run_dir, progress, rate)
            if tick % options.image_snap == 0:
                write_fakes(run_dir, state, data, options)
            if tick % options.snap == 0 and state.cur_nimg < total_nimg:
                save_snapshot(snapshot_path(run_dir, state.cur_nimg), state.state_dict(), config)
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
        images: Real images uint8 [batch, C, H, W].
        labels: Their labels float32 [batch, c_dim].
    """
    iteration = state.cur_nimg // options.batch
    real_img = to_float(_move(images, state.device))  # [N, C, H, W]
    real_c = _move(labels, state.device)
    for phase in phases:
        if iteration % phase.interval == 0:
            z = torch.randn(options.batch, state.G.z_dim, device=state.device)
            c = data.encode_labels(torch.randint(len(data), (options.batch,)).numpy())  # [N, c_dim]
            run_phase(phase, state, options, Batch(real_img, real_c, z, _move(c, state.device)))
    gankern.ema_update(
        state.G_ema, state.G, ema_beta(options.batch, state.cur_nimg, options.ema_kimg, options.ema_rampup)
    )
    state.cur_nimg += options.batch


def end_tick(state: TrainingState, run_dir: Path, progress: Progress, images_per_sec: float) -> None:
    """Reads the tick's statistics, writes their line, and shows them."""
    summary = state.stats.summary()
    for name, value in {"Progress/kimg": state.cur_nimg / 1000, "Timing/images_per_sec": images_per_sec}.items():
        summary[name] = {"num": 1, "mean": value, "std": 0.0}
    append_stats(run_dir, summary)
    losses = {"G": "Loss/G/loss", "D": "Loss/D/loss", "R1": "Loss/r1_penalty"}
    progress.tick(state.cur_nimg, "  ".join(f"{k} {summary[v]['mean']:.2f}" for k, v in losses.items() if v in summary))


def write_fakes(run_dir: Path, state: TrainingState, data: ImageData, options: TrainingOptions) -> None:
    """Writes the sample grid of this moment as fakesNNNNNN.png, NNNNNN in kimg, and the timeline up to it."""
    z, c = grid_inputs(data, state.G.z_dim, options.seed)
    write_samples(run_dir / f"fakes{state.cur_nimg // 1000:06d}.png", state.G_ema, z, c, grid_columns(data))
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
