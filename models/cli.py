"""The `gankern` command: train, sample, evaluate, doctor."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import evaluate

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .presets import Config
    from .training.images import ImageData

EXAMPLES = """examples:
  gankern train                                        ten digits, from scratch, in about three minutes
  gankern train --data photos:64 --kimg 100            crops of photographs, 64x64
  gankern train --data faces.zip --cfg paper256        your images: a folder or zip, square, one size
  gankern train --resume latest                        continue the newest run exactly where it stopped
  gankern sample runs/00000-digits-cond --seeds 0-15   images from a run
  gankern evaluate runs/00000-digits-cond             SWD and MS-SSIM of a run
  gankern doctor                                       what is installed, what works, and why not the rest
"""

# What a resumed run must agree on with its configuration: options of the command, and attributes of the data.
FIXED_OPTIONS = {
    "data": "data.source",
    "cfg": "preset",
    "cond": "data.cond",
    "mirror": "training.mirror",
    "batch": "training.batch",
    "gamma": "training.r1_gamma",
    "seed": "training.seed",
    "precision": "model.precision",
}
FIXED_DATA = {
    "length": "data.images",
    "resolution": "model.img_resolution",
    "channels": "model.img_channels",
    "c_dim": "model.c_dim",
}


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    if argv is None:
        argv = sys.argv[1:]
        if argv[:1] == ["train"]:
            _let_threads_sleep()
    if argv[:1] == ["doctor"]:
        from gankern.doctor import main as run_doctor

        return run_doctor(argv[1:])
    args = parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        print(f"gankern {args.command}: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The command's options, named as in the StyleGAN2-ADA line of tools."""
    formatter = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser("gankern", description="Trains GANs.", epilog=EXAMPLES, formatter_class=formatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="{train,sample,evaluate,doctor}")

    train = commands.add_parser(
        "train", help="train a model; with no options, the digits", epilog=EXAMPLES, formatter_class=formatter
    )
    _add_train_options(train)
    _add_sample_options(commands.add_parser("sample", help="make images with a trained model"))
    evaluate.add_options(commands.add_parser("evaluate", help="measure a trained model: SWD, MS-SSIM, FID, ..."))
    commands.add_parser("doctor", help="show versions, backends and self-tests", add_help=False)
    return top


def _add_train_options(train: argparse.ArgumentParser) -> None:
    train.set_defaults(run=run_train)
    flag: dict[str, Any] = {"type": _bool, "nargs": "?", "const": True, "metavar": "0|1"}
    add = train.add_argument
    add("--outdir", type=Path, default=Path("runs"), help="folder of the runs; each makes its own below it [runs]")
    add("--data", help="digits[:8|16|32], photos[:16..256], or a folder or zip of square images [digits]")
    add("--cfg", help="auto, stylegan2, paper256, paper512, paper1024, cifar or digits [digits for digits, else auto]")
    add("--cond", **flag, help="learn the labels (of dataset.json, for files) [from cfg]")
    add("--mirror", **flag, help="add the images' mirror images [0]")
    add("--batch", type=int, help="images per step [from cfg]")
    add("--gamma", type=float, help="weight of R1; also try a tenth and ten times the default [from cfg]")
    add("--kimg", type=float, help="length of the run in thousands of real images [from cfg]")
    add("--snap", type=int, metavar="TICKS", help="ticks between snapshots and between sample grids [from cfg]")
    add("--seed", type=int, help="of all random numbers and of the order of the data [0]")
    add("--precision", metavar="P", help="fp32, bf16 or fp16, of the high resolutions [from cfg; no fp16 on a CPU]")
    add("--resume", metavar="latest|RUN|FILE", help="continue a run exactly: the same losses as if never stopped")
    add("--workers", type=int, help="processes that read image files [3; 0 for embedded data]")
    add("--device", help="cpu, cuda, cuda:1, ... [cuda if there is one]")
    add("--allocator", choices=("keep", "default"), default="keep", help="on a CPU: keep freed memory for reuse [keep]")
    add("-n", "--dry-run", action="store_true", help="print the configuration and stop")


def _add_sample_options(sample: argparse.ArgumentParser) -> None:
    sample.set_defaults(run=run_sample)
    add = sample.add_argument
    add("checkpoint", metavar="CKPT", help="a snapshot, or a run folder for its newest one")
    add("--seeds", type=_seeds, default="0-15", help="list and ranges, e.g. 0,1,4-7 [0-15]")
    add("--trunc", type=float, default=1.0, help="truncation psi: 1 for full variety, 0.7 for safer images [1]")
    add("--class", type=int, dest="class_idx", metavar="K", help="class to show [every class, for each seed]")
    add("--outdir", type=Path, default=Path("samples"), help="folder for the images [samples]")
    add("--device", help="cpu, cuda, ... [cuda if there is one]")


def run_train(args: argparse.Namespace) -> int:
    """`gankern train`: sets up, trains, reports."""
    from .training.checkpoint import load_snapshot
    from .training.loop import stop_on_signal, train
    from .training.run_folder import continue_run, find_snapshot, new_run_dir, write_config
    from .training.state import new_state

    device = _device(args.device)
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
    if snapshot and saved:
        state.load_state_dict(saved)
        run_dir = continue_run(snapshot, state.cur_nimg, args.outdir, _description(config))
        print(f"resuming {snapshot} at {state.cur_nimg / 1000:g} kimg")
    else:
        run_dir = new_run_dir(args.outdir, _description(config))
    write_config(run_dir, config.to_json())
    print(f"run folder {run_dir}")
    workers = args.workers if args.workers is not None else 0 if data.in_memory else 3
    with stop_on_signal() as stopped:
        rate = train(state, data, config.training, run_dir, config.to_json(), workers, stopped)
    if stopped():
        print(f"stopped at {state.cur_nimg / 1000:g} kimg; to continue: gankern train --resume {run_dir}")
        return 0
    _finish(run_dir, config, data, state.G_ema, rate, state.cur_nimg)
    return 0


def run_sample(args: argparse.Namespace) -> int:
    """`gankern sample`: one PNG per seed (and class), and a grid of all."""
    import torch

    from .training.pictures import present, tile
    from .training.png import write_png
    from .training.run_folder import find_snapshot

    device = _device(args.device)
    config, G_ema = _load_generator(find_snapshot(args.checkpoint, Path()), device)
    classes = _classes(args.class_idx, config.model.c_dim)
    args.outdir.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in args.seeds:
        z = torch.randn(1, config.model.z_dim, generator=torch.Generator().manual_seed(seed)).to(device)
        c = torch.eye(config.model.c_dim, device=device)[classes] if classes else torch.zeros(1, 0, device=device)
        with torch.no_grad():
            img = G_ema(z.repeat(len(c), 1), c, truncation_psi=args.trunc, noise_mode="const")  # [classes, C, R, R]
        for k, one in enumerate(img):
            suffix = f"-class{classes[k]}" if classes else ""
            write_png(args.outdir / f"seed{seed:04d}{suffix}.png", tile(one[None], 1))
        rows.append(img)
    grid = args.outdir / "grid.png"
    write_png(grid, tile(present(torch.cat(rows)), len(rows[0])))
    print(f"{len(rows) * len(rows[0])} images in {args.outdir}, all of them in {grid} (one row per seed)")
    return 0


def _new_config(args: argparse.Namespace, device: torch.device) -> tuple[Config, ImageData]:
    from dataclasses import replace

    from .presets import PRESETS, Config, DataOptions, resolve
    from .training.data import open_data

    source = args.data or "digits"
    cfg = args.cfg or ("digits" if source.partition(":")[0] == "digits" else "auto")
    if cfg not in PRESETS:
        raise ValueError(f"--cfg must be one of {', '.join(PRESETS)}, got {cfg}")
    cond = PRESETS[cfg].cond if args.cond is None else args.cond
    data = open_data(source, cond)
    precision = args.precision
    if precision is None and device.type == "cpu" and PRESETS[cfg].precision == "fp16":
        precision = "fp32"
    model, training = resolve(cfg, data.resolution, data.channels, data.c_dim, precision=precision)
    given = {"batch": args.batch, "r1_gamma": args.gamma, "kimg": args.kimg, "seed": args.seed}
    given |= {"mirror": args.mirror, "snap": args.snap, "image_snap": args.snap}
    training = replace(training, **{name: value for name, value in given.items() if value is not None})
    return Config(cfg, DataOptions(source, data.name, len(data), cond), model, training), data


def _resumed_config(args: argparse.Namespace, saved: dict[str, Any], snapshot: Path) -> tuple[Config, ImageData]:
    """The snapshot's configuration; options given now may change the run's length and snapshots, nothing else."""
    from dataclasses import replace
    from operator import attrgetter

    from .presets import Config
    from .training.data import open_data

    config = Config.from_json(saved)
    data = open_data(config.data.source, config.data.cond)
    differ = []
    for option, field in FIXED_OPTIONS.items():
        has, got = attrgetter(field)(config), getattr(args, option)
        if got is not None and got != has:
            differ.append(f"  --{option}: the run has {has}, got {got}")
    for found, field in FIXED_DATA.items():
        has, got = attrgetter(field)(config), getattr(data, found)
        if got != has:
            differ.append(f"  {found} of {config.data.source}: the run has {has}, got {got}")
    if differ:
        raise ValueError(f"--resume {snapshot} cannot continue with another configuration:\n" + "\n".join(differ))
    free = {"kimg": args.kimg, "snap": args.snap, "image_snap": args.snap}
    given = {name: value for name, value in free.items() if value is not None}
    return replace(config, training=replace(config.training, **given)), data


def _seeded_networks(config: Config) -> tuple[nn.Module, nn.Module]:
    import torch

    from .presets import build_networks

    torch.manual_seed(config.training.seed)
    return build_networks(config.model)


def _load_generator(snapshot: Path, device: torch.device) -> tuple[Config, nn.Module]:
    from .presets import Config, build_networks
    from .training.checkpoint import load_snapshot

    state, saved = load_snapshot(snapshot)
    config = Config.from_json(saved)
    G_ema, _ = build_networks(config.model)
    G_ema.load_state_dict(state["G_ema"])
    return config, G_ema.to(device).eval()


def _finish(run_dir: Path, config: Config, data: ImageData, G_ema: nn.Module, rate: float, cur_nimg: int) -> None:
    """Measures quality where the data allows it, writes the report, and prints where everything is."""
    import json

    from .training.checkpoint import latest_snapshot
    from .training.pictures import FAKES
    from .training.report import write_report

    results: dict[str, Any] = {"real images seen": f"{cur_nimg / 1000:g} kimg", "speed": f"{rate:.0f} images/s"}
    if data.name == "digits" and data.num_classes:
        from .metrics.fd_digits import fd_digits

        found = fd_digits(G_ema, data)
        results["class accuracy"] = (
            f"{found.class_accuracy:.1%} (judge: {found.judge_accuracy:.1%} on real test digits)"
        )
        results["FD-digits"] = f"{found.fd:.1f} (real training against real test digits: {found.fd_floor:.1f})"
        measured = {"images_per_sec": rate, "kimg": cur_nimg / 1000, **found._asdict()}
        (run_dir / "metric-fd_digits.json").write_text(json.dumps(measured) + "\n")
    report = write_report(run_dir, results)
    results |= {"samples": max(run_dir.glob(FAKES)), "over time": run_dir / "timeline.png"}
    results |= {"curves": run_dir / "curves.svg", "report": report, "snapshot": latest_snapshot(run_dir)}
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


def _description(config: Config) -> str:
    parts = [config.data.name, "cond" if config.data.cond else "", "mirror" if config.training.mirror else ""]
    if config.preset != config.data.name:
        parts.append(config.preset)
    return "-".join(part for part in parts if part)


def _device(name: str | None) -> torch.device:
    import torch

    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {name}: this PyTorch sees no CUDA device")
    return device


def _let_threads_sleep() -> None:
    """Starts this program over with OpenMP's threads told to spin briefly for work and then to sleep, unless it is set.

    Endless spinning slows a shared machine down several times; sleeping at once makes small steps two to three times
    slower on a quiet one. OpenMP reads the variables when torch is loaded, which is before this function can run.
    """
    if os.name == "posix" and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        os.execv(sys.executable, sys.orig_argv)


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


def _classes(class_idx: int | None, c_dim: int) -> list[int]:
    if class_idx is not None and not 0 <= class_idx < c_dim:
        raise ValueError(f"--class must be below the model's number of classes = {c_dim}, got {class_idx}")
    return list(range(c_dim)) if class_idx is None else [class_idx]


def _bool(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected 0 or 1, got {text}")
    return values[text.lower()]


def _seeds(text: str) -> list[int]:
    try:
        ranges = [[int(n) for n in part.split("-")] for part in text.split(",")]
        seeds = [seed for first, *last in ranges for seed in range(first, (last or [first])[0] + 1)]
    except ValueError:
        seeds = []
    if not seeds:
        raise argparse.ArgumentTypeError(f"expected numbers and ranges such as 0,1,4-7, got {text}")
    return seeds


if __name__ == "__main__":
    sys.exit(main())
