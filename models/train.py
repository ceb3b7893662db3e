"""`gankern train`: sets a run up, trains, and reports."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gankern

from . import evaluate, launch, overrides, speed_options
from . import transfer as transfers
from .arguments import boolean, device_of
from .augment_options import AUGMENT_TRAINING, add_augment_options, check_augment_options
from .training.run_log import RunLog
from .training.trackers import Tracker, add_tracker_options, open_trackers

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .config import Config
    from .training.images import ImageData
    from .training.options import TrainingOptions
    from .training.state import TrainingState

# What a resumed run must agree on with its configuration: options of the command, and attributes of the data.
FIXED_OPTIONS = {"data": "data.source", "cfg": "preset", "cond": "data.cond", "precision": "model.precision"}
FIXED_DATA = {
    "length": "data.images",
    "resolution": "model.img_resolution",
    "base_size": "model.base_size",
    "channels": "model.img_channels",
    "c_dim": "model.c_dim",
}
# Options of the command that are training options, with their names there: the first decide what is computed.
FIXED_TRAINING = {"batch": "batch", "gamma": "r1_gamma", "mirror": "mirror", "seed": "seed"}
FIXED_TRAINING |= {name: name for name in ("sync_bn", "mbstd_global")} | AUGMENT_TRAINING
FREE_TRAINING = {"kimg": "kimg", "snap": "snap", "tick": "tick_kimg"}
FREE_TRAINING |= {name: name for name in ("batch_gpu", "keep", "on_nan")}


def add_options(train: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    train.set_defaults(run=run)
    flag: dict[str, Any] = {"type": boolean, "nargs": "?", "const": True, "metavar": "0|1"}
    add = train.add_argument
    add("--outdir", type=Path, default=Path("runs"), help="folder of the runs; each makes its own below it [runs]")
    add(
        "--data",
        help="digits[:8|16|32], photos[:16..256], or a path: .gankern, folder, zip, tars; docs/data.md [digits]",
    )
    add("--cfg", help="a configuration, of those named below [digits for digits, else auto]")
    add("--cond", **flag, help="learn the labels, for files those of dataset.json or one folder per class [from cfg]")
    add("--mirror", **flag, help="add the images' mirror images [0]")
    add("--batch", type=int, help="images per step [from cfg]")
    add("--batch-gpu", type=int, help="images that go through the networks at once; the rest waits [from cfg]")
    add("--gamma", type=float, help="weight of R1; also try a tenth and ten times the default [from cfg]")
    add("--kimg", type=float, help="length of the run in thousands of real images [from cfg]")
    add("--snap", type=int, metavar="TICKS", help="ticks between snapshots and between sample grids [from cfg]")
    add("--tick", type=float, metavar="KIMG", help="thousands of images between progress lines [from cfg]")
    add("--desc", metavar="TEXT", help="also in the name of the run's folder")
    add("--seed", type=int, help="of all random numbers and of the order of the data [0]")
    add("--precision", metavar="P", help="fp32, bf16 or fp16, of the high resolutions [from cfg; no fp16 on a CPU]")
    add("--resume", metavar="latest|RUN|FILE", help="continue a run exactly: the same losses as if never stopped")
    add("--transfer", metavar="RUN|FILE", help="begin with the weights of a run, or of any project's checkpoint")
    add("--workers", type=int, help="processes that read image files [3, on fewer cores as many; 0 for embedded data]")
    add("--device", help="cpu, cuda, cuda:1, ... [cuda if there is one]")
    add("--backend", choices=("eager",), help="compute everything in plain PyTorch [the fastest that runs]")
    add("--allocator", choices=("keep", "default"), default="keep", help="on a CPU: keep freed memory for reuse [keep]")
    add_fault_options(train)
    add("-n", "--dry-run", action="store_true", help="print the configuration and stop")
    add_augment_options(train)
    overrides.add_override_options(train)
    speed_options.add_speed_options(train)
    launch.add_rank_options(train)
    metrics = evaluate.add_metric_options(train)
    metrics.add_argument("--metric-every", type=int, metavar="TICKS", help="ticks between measurements [never]")
    add_tracker_options(train)


def add_fault_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say what happens when something goes wrong."""
    add = parser.add_argument_group("faults", "what a run survives, and how: docs/faults.md").add_argument
    add("--keep", type=int, metavar="N", help="keep the newest N snapshots [all]")
    add("--on-nan", choices=("stop", "rollback"), help="at a NaN: stop, or go back to the newest snapshot [stop]")
    add("--deterministic", action="store_true", help="on a GPU too: the same numbers in every run; slower")


def run(args: argparse.Namespace) -> int:
    """Runs the command, in as many processes as it is asked to; returns the exit status.

    What the first process prints is in the run's log.txt, too.
    """
    device = device_of(args.device)
    num = launch.ranks_to_start(args.gpus, device)
    if num and not args.dry_run:
        return launch.launch(num, [sys.executable, *sys.orig_argv[1:]])
    from .join import joined
    from .training.loop import stop_on_signal

    # What arrives while all is set up stops the run before its first step.
    with joined(device, "train", args.dist_timeout) as device, RunLog().copying() as log, stop_on_signal() as stopped:
        return _run(args, device, log, stopped)


def _run(args: argparse.Namespace, device: torch.device, log: RunLog, stopped: Callable[[], bool]) -> int:
    from . import watch
    from .ranks import by_first_rank, rank
    from .run_summary import describe
    from .training.checkpoint import load_newest
    from .training.lock import locked
    from .training.phases import check_networks
    from .training.run_folder import clean_up, continue_run, find_snapshots, new_run_dir, write_config
    from .training.state import new_state

    transfers.accept_as_resume(args)
    saved, damaged = None, []
    if args.resume:
        found = by_first_rank(find_snapshots, args.resume, args.outdir)
        snapshot, saved, saved_config = load_newest(found)
        damaged = found[: found.index(snapshot)]
        config, data = _resumed_config(args, saved_config, snapshot)
    else:
        config, data = _new_config(args, device)
    if config.model.precision == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 needs a GPU, use bf16 or fp32 on the CPU")
    if args.workers is not None and args.workers < 0:
        raise ValueError(f"--workers must not be negative, got {args.workers}")
    if args.deterministic:
        _make_deterministic()
    G, D = _seeded_networks(config)
    check_networks(G, D, config.training)
    describe(config, data, G, D, device)
    if args.dry_run:
        return 0
    _set_allocator(args.allocator, device)
    speed_options.set_backends(args, device)
    state = new_state(G, D, config.training, device)
    if args.transfer:
        transfers.begin_with(args.transfer, config, state)
    speed_options.set_graphs(args, state)
    measure = evaluate.measuring(args, state, data)
    if saved:
        state.load_state_dict(saved)
        description = _description(config, args.desc)
        run_dir = by_first_rank(continue_run, snapshot, state.cur_nimg, args.outdir, description, damaged)
    else:
        run_dir = by_first_rank(new_run_dir, args.outdir, _description(config, args.desc))
    with locked(run_dir) if rank() == 0 else nullcontext():
        if saved:
            by_first_rank(clean_up, run_dir, state.cur_nimg, damaged)
            print(f"resuming {snapshot} at {state.cur_nimg / 1000:g} kimg{_other_ranks(saved)}")
        write_config(run_dir, config.to_json())
        if rank() == 0:
            log.open(run_dir)
        print(f"run folder {run_dir}")
        watch.advise(partial(_how_to_resume, run_dir))
        trackers = open_trackers(args, run_dir, state.cur_nimg, config.to_json()) if rank() == 0 else ()
        return _train(args, state, data, config, run_dir, stopped, partial(measure, run_dir), trackers)


def _train(
    args: argparse.Namespace,
    state: TrainingState,
    data: ImageData,
    config: Config,
    run_dir: Path,
    signalled: Callable[[], bool],
    measure: Callable[[int], None],
    trackers: Sequence[Tracker],
) -> int:
    """Trains, and reports or says how to go on."""
    from .ranks import by_first_rank
    from .training.checkpoint import latest_snapshot
    from .training.distributed import together
    from .training.faults import going_on
    from .training.loop import train

    to_continue = f"to continue: gankern train --resume {run_dir}"
    workers = args.workers if args.workers is not None else 0 if data.in_memory else min(3, os.cpu_count() or 1)
    stopped = together(signalled)
    try:
        with gankern.use_backend(args.backend) if args.backend else nullcontext():
            rate = train(state, data, config.training, run_dir, config.to_json(), workers, stopped, measure, trackers)
    except BaseException as error:
        if latest_snapshot(run_dir):
            error.add_note(to_continue)
        raise
    if stopped() and state.cur_nimg < round(config.training.kimg * 1000):
        print(f"stopped at {state.cur_nimg / 1000:g} kimg; {to_continue}")
        return 0
    with going_on():
        by_first_rank(_finish, run_dir, config, data, state.G_ema, rate, state.cur_nimg)
    return 0


def _new_config(args: argparse.Namespace, device: torch.device) -> tuple[Config, ImageData]:
    from .config import Config, DataOptions, find_preset, resolve
    from .ranks import world_size
    from .training.data import open_data

    source = args.data or "digits"
    cfg = args.cfg or ("digits" if source.partition(":")[0] == "digits" else "auto")
    family, preset = find_preset(cfg)
    cond = preset.cond if args.cond is None else args.cond
    data = open_data(source, cond)
    precision = args.precision
    if precision is None and device.type == "cpu" and preset.precision == "fp16":
        precision = "fp32"
    size = data.resolution, data.channels, data.c_dim
    model, training = resolve(cfg, *size, args.gpus or world_size(), precision, data.base_size)
    model, training = overrides.with_overrides(args, cfg, model, training)
    if args.transfer:
        training = transfers.options_for_transfer(training)
    training = _with_options(training, args, FIXED_TRAINING | FREE_TRAINING)
    check_augment_options(args, training.aug)
    return Config(cfg, family, DataOptions(source, data.name, len(data), cond), model, training), data


def _resumed_config(args: argparse.Namespace, saved: dict[str, Any], snapshot: Path) -> tuple[Config, ImageData]:
    """The snapshot's configuration; options given now may change the run's length and snapshots, nothing else."""
    from .config import Config
    from .training.data import open_data

    config = Config.from_json(saved)
    data = open_data(config.data.source, config.data.cond)
    differ = overrides.differing(args, config)
    for option, field in FIXED_OPTIONS.items():
        has, got = attrgetter(field)(config), getattr(args, option)
        if got is not None and got != has:
            differ.append(f"  --{option}: the run has {has}, got {got}")
    for option, field in FIXED_TRAINING.items():
        if _with_options(config.training, args, {option: field}) != config.training:
            by_resolution = getattr(config.training.growth, field, None)
            has, got = by_resolution or getattr(config.training, field), getattr(args, option)
            differ.append(f"  --{option.replace('_', '-')}: the run has {has}, got {got}")
    for found, field in FIXED_DATA.items():
        has, got = attrgetter(field)(config), getattr(data, found)
        if got != has:
            differ.append(f"  {found} of {config.data.source}: the run has {has}, got {got}")
    if differ:
        raise ValueError(f"--resume {snapshot} cannot continue with another configuration:\n" + "\n".join(differ))
    training = _with_options(config.training, args, FREE_TRAINING)
    if (training.batch_gpu, training.growth) != (config.training.batch_gpu, config.training.growth):
        print("--batch-gpu is not the run's: from here on its losses are not those of the run in one piece")
    return replace(config, training=training), data


def _with_options(training: TrainingOptions, args: argparse.Namespace, names: dict[str, str]) -> TrainingOptions:
    """The training options with those of the command that were given; a batch then holds at every resolution."""
    given: dict[str, Any] = {
        field: value for name, field in names.items() if (value := getattr(args, name)) is not None
    }
    if "snap" in given:
        given["image_snap"] = given["snap"]
    if training.growth is not None:
        constant: dict[str, Any] = {field: {} for field in ("batch", "batch_gpu") if field in given}
        given["growth"] = replace(training.growth, **constant)
    return replace(training, **given)


def _seeded_networks(config: Config) -> tuple[nn.Module, nn.Module]:
    import torch

    from .config import build_networks

    torch.manual_seed(config.training.seed)
    return build_networks(config)


def _finish(run_dir: Path, config: Config, data: ImageData, G_ema: nn.Module, rate: float, cur_nimg: int) -> None:
    """Measures quality where the data allows it, writes the report, and prints where everything is."""
    import json

    from .training.checkpoint import latest_snapshot
    from .training.pictures import sample_grids
    from .training.report import write_report
    from .training.run_folder import read_metrics
    from .training.standing import with_standing_statistics

    G_ema = with_standing_statistics(G_ema, config.training.standing_batches, config.training.batch)
    results: dict[str, Any] = {"real images seen": f"{cur_nimg / 1000:g} kimg", "speed": f"{rate:.0f} images/s"}
    size = getattr(G_ema, "resolution", data.resolution)
    if size < data.resolution:
        results["resolution"] = f"{size}x{size}, of {data.resolution}x{data.resolution} (the run was too short to grow)"
    elif data.name == "digits" and data.num_classes:
        from .metrics.fd_digits import fd_digits

        found = fd_digits(G_ema, data)
        results["class accuracy"] = (
            f"{found.class_accuracy:.1%} (judge: {found.judge_accuracy:.1%} on real test digits)"
        )
        results["FD-digits"] = f"{found.fd:.1f} (real training against real test digits: {found.fd_floor:.1f})"
        measured = {"images_per_sec": rate, "kimg": cur_nimg / 1000, **found._asdict()}
        (run_dir / "metric-fd_digits.json").write_text(json.dumps(measured) + "\n")
    for measured in read_metrics(run_dir)[-1:]:
        kimg = measured.pop("kimg")
        results |= {name: f"{value:.4g} (at {kimg:g} kimg)" for name, value in measured.items()}
    try:
        write_report(run_dir, results)
    except OSError as error:  # the run itself is safe
        print(f"gankern train: cannot write report.html ({error})")
    left = {"samples": sample_grids(run_dir)[-1:], "over time": [run_dir / "timeline.png"]}
    left |= {"curves": [run_dir / "curves.svg"], "report": [run_dir / "report.html"]}
    results |= {name: path for name, paths in left.items() for path in paths if path.exists()}
    results["snapshot"] = latest_snapshot(run_dir)
    results["run folder"] = run_dir
    for name, value in results.items():
        print(f"{name:>16}  {value}")


def _other_ranks(saved: dict[str, Any]) -> str:
    """What is to be said when a run goes on with another number of processes."""
    from .ranks import world_size
    from .training.random_states import saved_ranks

    if saved_ranks(saved) == world_size():
        return ""
    return f", with {world_size()} in place of {saved_ranks(saved)} processes: the random numbers are others"


def _how_to_resume(run_dir: Path) -> str:
    """The end of the sentence with which a run of several processes fails."""
    from .training.checkpoint import latest_snapshot

    if latest_snapshot(run_dir) is None:
        return f"; {run_dir} has no snapshot yet"
    return f"; to continue, start it again with --resume {run_dir}"


def _description(config: Config, desc: str | None) -> str:
    parts = [config.data.name, "cond" if config.data.cond else "", "mirror" if config.training.mirror else ""]
    if config.preset != config.data.name:
        parts.append(config.preset)
    if desc and Path(desc).name != desc:
        raise ValueError(f"--desc is part of a folder's name, got {desc}")
    parts.append(desc or "")
    return "-".join(part for part in parts if part)


def _make_deterministic() -> None:
    """Lets PyTorch use only routines whose results repeat bit for bit; an operation without one is an error."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it takes time
    torch.backends.cudnn.benchmark = False


def _set_allocator(allocator: str, device: torch.device) -> None:
    """glibc gives every large freed tensor back to the system, and touching new pages costs several times a copy."""
    if device.type != "cpu" or allocator == "default":
        return
    try:
        from gankern._host import keep_freed_memory
    except ImportError:
        print("allocator: default, for the native backend is not built (see `gankern doctor`)")
        return
    keep_freed_memory()
