"""`gankern train`: sets a run up, trains, and reports."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gankern

from . import evaluate
from .arguments import boolean, device_of
from .training.run_log import RunLog
from .training.trackers import add_tracker_options, open_trackers

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .config import Config
    from .training.images import ImageData
    from .training.options import TrainingOptions

# What a resumed run must agree on with its configuration: options of the command, and attributes of the data.
FIXED_OPTIONS = {"data": "data.source", "cfg": "preset", "cond": "data.cond", "precision": "model.precision"}
FIXED_DATA = {
    "length": "data.images",
    "resolution": "model.img_resolution",
    "channels": "model.img_channels",
    "c_dim": "model.c_dim",
}
# Options of the command that are training options, with their names there: the first decide what is computed.
FIXED_TRAINING = {"batch": "batch", "batch_gpu": "batch_gpu", "gamma": "r1_gamma", "mirror": "mirror", "seed": "seed"}
FREE_TRAINING = {"kimg": "kimg", "snap": "snap"}


def add_options(train: argparse.ArgumentParser) -> None:
    """Adds the command's options to its parser."""
    train.set_defaults(run=run)
    flag: dict[str, Any] = {"type": boolean, "nargs": "?", "const": True, "metavar": "0|1"}
    add = train.add_argument
    add("--outdir", type=Path, default=Path("runs"), help="folder of the runs; each makes its own below it [runs]")
    add("--data", help="digits[:8|16|32], photos[:16..256], or a folder or zip of square images [digits]")
    add("--cfg", help="a configuration, of those named below [digits for digits, else auto]")
    add("--cond", **flag, help="learn the labels (of dataset.json, for files) [from cfg]")
    add("--mirror", **flag, help="add the images' mirror images [0]")
    add("--batch", type=int, help="images per step [from cfg]")
    add("--batch-gpu", type=int, help="images that go through the networks at once; the rest waits [from cfg]")
    add("--gamma", type=float, help="weight of R1; also try a tenth and ten times the default [from cfg]")
    add("--kimg", type=float, help="length of the run in thousands of real images [from cfg]")
    add("--snap", type=int, metavar="TICKS", help="ticks between snapshots and between sample grids [from cfg]")
    add("--seed", type=int, help="of all random numbers and of the order of the data [0]")
    add("--precision", metavar="P", help="fp32, bf16 or fp16, of the high resolutions [from cfg; no fp16 on a CPU]")
    add("--resume", metavar="latest|RUN|FILE", help="continue a run exactly: the same losses as if never stopped")
    add("--workers", type=int, help="processes that read image files [3; 0 for embedded data]")
    add("--device", help="cpu, cuda, cuda:1, ... [cuda if there is one]")
    add("--backend", choices=("eager",), help="compute everything in plain PyTorch [the fastest that runs]")
    add("--allocator", choices=("keep", "default"), default="keep", help="on a CPU: keep freed memory for reuse [keep]")
    add("-n", "--dry-run", action="store_true", help="print the configuration and stop")
    metrics = evaluate.add_metric_options(train)
    metrics.add_argument("--metric-every", type=int, metavar="TICKS", help="ticks between measurements [never]")
    add_tracker_options(train)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit status. What it prints is in the run's log.txt, too."""
    with RunLog().copying() as log:
        return _run(args, log)


def _run(args: argparse.Namespace, log: RunLog) -> int:
    from .training.checkpoint import load_snapshot
    from .training.loop import stop_on_signal, train
    from .training.run_folder import continue_run, find_snapshot, new_run_dir, write_config
    from .training.standing import with_standing_statistics
    from .training.state import new_state

    device = device_of(args.device)
    snapshot, saved = None, None
    if args.resume:
        snapshot = find_snapshot(args.resume, args.outdir)
        saved, saved_config = load_snapshot(snapshot)
        config, data = _resumed_config(args, saved_config, snapshot)
    else:
        config, data = _new_config(args, device)
    if config.model.precision == "fp16" and device.type == "cpu":
        raise ValueError("--precision fp16 needs a GPU, use bf16 or fp32 on the CPU")
    G, D = _seeded_networks(config)
    _describe(config, data, G, D, device)
    if args.dry_run:
        return 0
    _set_allocator(args.allocator, device)
    state = new_state(G, D, config.training, device)
    measure = evaluate.measuring(args, state, data)
    if snapshot and saved:
        state.load_state_dict(saved)
        run_dir = continue_run(snapshot, state.cur_nimg, args.outdir, _description(config))
        print(f"resuming {snapshot} at {state.cur_nimg / 1000:g} kimg")
    else:
        run_dir = new_run_dir(args.outdir, _description(config))
    write_config(run_dir, config.to_json())
    log.open(run_dir)
    print(f"run folder {run_dir}")
    trackers = open_trackers(args, run_dir, state.cur_nimg, config.to_json())
    workers = args.workers if args.workers is not None else 0 if data.in_memory else 3
    with stop_on_signal() as stopped, gankern.use_backend(args.backend) if args.backend else nullcontext():
        rate = train(
            state,
            data,
            config.training,
            run_dir,
            config.to_json(),
            workers,
            stopped,
            partial(measure, run_dir),
            trackers,
        )
    if stopped():
        print(f"stopped at {state.cur_nimg / 1000:g} kimg; to continue: gankern train --resume {run_dir}")
        return 0
    G_ema = with_standing_statistics(state.G_ema, config.training.standing_batches, config.training.batch)
    _finish(run_dir, config, data, G_ema, rate, state.cur_nimg)
    return 0


def _new_config(args: argparse.Namespace, device: torch.device) -> tuple[Config, ImageData]:
    from .config import Config, DataOptions, find_preset, resolve
    from .training.data import open_data

    source = args.data or "digits"
    cfg = args.cfg or ("digits" if source.partition(":")[0] == "digits" else "auto")
    family, preset = find_preset(cfg)
    cond = preset.cond if args.cond is None else args.cond
    data = open_data(source, cond)
    precision = args.precision
    if precision is None and device.type == "cpu" and preset.precision == "fp16":
        precision = "fp32"
    model, training = resolve(cfg, data.resolution, data.channels, data.c_dim, precision=precision)
    if args.gamma is not None and not training.r1_interval:
        raise ValueError(f"--gamma is the weight of R1, which --cfg {cfg} does not use")
    training = _with_options(training, args, FIXED_TRAINING | FREE_TRAINING)
    return Config(cfg, family, DataOptions(source, data.name, len(data), cond), model, training), data


def _resumed_config(args: argparse.Namespace, saved: dict[str, Any], snapshot: Path) -> tuple[Config, ImageData]:
    """The snapshot's configuration; options given now may change the run's length and snapshots, nothing else."""
    from .config import Config
    from .training.data import open_data

    config = Config.from_json(saved)
    data = open_data(config.data.source, config.data.cond)
    differ = []
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
    return replace(config, training=_with_options(config.training, args, FREE_TRAINING)), data


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


def _describe(config: Config, data: ImageData, G: nn.Module, D: nn.Module, device: torch.device) -> None:
    import json

    import torch

    kind = "grey" if data.channels == 1 else "RGB"
    classes = f", {data.c_dim} classes" if data.num_classes else ""
    where = f"cpu, {torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    print(f"data     {config.data.source}: {len(data)} images, {data.resolution}x{data.resolution} {kind}{classes}")
    for name, net in (("G", G), ("D", D)):
        print(f"{name}        {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters")
    print(f"device   {where}, {config.model.precision}")
    for part in ("model", "training"):
        print(f"{part:8} {json.dumps(config.to_json()[part])}")
    for line in _growth_table(config.training):
        print(line)


def _growth_table(training: TrainingOptions) -> list[str]:
    """The schedule of a growing run, a line for each resolution that fades in or trains."""
    from .training.schedule import periods

    if training.growth is None:
        return []
    lines = ["growth          kimg  resolution          batch  lr"]
    for period in periods(training.growth):
        start, end = period.start / 1000, (period.end or training.kimg * 1000) / 1000
        if start >= training.kimg:
            last = training.growth.last_resolution
            return [*lines, f"           the run is too short for {last}x{last}"]
        size = f"{period.resolution}x{period.resolution}{' fades in' if period.fading else ''}"
        batch = training.growth.batch.get(period.resolution, training.batch)
        lr = training.growth.lr.get(period.resolution, training.lr)
        lines.append(f"{start:10g} - {min(end, training.kimg):<7g} {size:19} {batch:5}  {lr:g}")
    return lines


def _description(config: Config) -> str:
    parts = [config.data.name, "cond" if config.data.cond else "", "mirror" if config.training.mirror else ""]
    if config.preset != config.data.name:
        parts.append(config.preset)
    return "-".join(part for part in parts if part)


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
