"""The `gankern` command and its subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from . import convert_command, evaluate, export_command, sample, train
from .config import FAMILIES

EXAMPLES = """examples:
  gankern train                                        ten digits, from scratch, in about three minutes
  gankern train --cfg progan-digits                    the same digits, growing from 4x4 to 32x32
  gankern train --data photos:64 --kimg 100            crops of photographs, 64x64
  gankern train --data faces.zip --cfg paper256        your images: a folder or zip, square, one size
  gankern train --data faces.zip --cfg stylegan -n     how a run would go: networks, options, growth; no training
  gankern train --resume latest                        continue the newest run exactly where it stopped
  gankern sample runs/00000-digits-cond --seeds 0-15   images from a run
  gankern evaluate runs/00000-digits-cond              SWD and MS-SSIM of its generator: no weights needed
  gankern sample stylegan2.pkl --trunc 0.7             images from a published checkpoint, of any project
  gankern convert stylegan2.pkl ours.safetensors       the same without pickles; --to names other formats
  gankern export runs/00000-digits-cond digits.onnx    a generator for other runtimes; also .pt2
  gankern doctor                                       what is installed, what works, and why not the rest
"""

CONFIGURATIONS = "configurations (--cfg):\n" + "\n".join(
    f"  {family:10} {', '.join(entry.presets)}" for family, entry in FAMILIES.items()
)


COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "train": (train.add_options, "train a model; with no options, the digits"),
    "sample": (sample.add_options, "make images with a trained model"),
    "evaluate": (evaluate.add_options, "measure a trained model: SWD, MS-SSIM, FID, ..."),
    "export": (export_command.add_options, "write a generator for torch.export or ONNX"),
    "convert": (convert_command.add_options, "read any published checkpoint, write another"),
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
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (add_options, about) in COMMANDS.items():
        epilog = f"{CONFIGURATIONS}\n\n{EXAMPLES}" if name == "train" else None
        add_options(commands.add_parser(name, help=about, epilog=epilog, formatter_class=formatter))
    commands.add_parser("doctor", help="show versions, backends and self-tests", add_help=False)
    return top


def _let_threads_sleep() -> None:
    """Starts this program over with OpenMP's threads told to spin briefly for work and then to sleep, unless it is set.

    Endless spinning slows a shared machine down several times; sleeping at once makes small steps two to three times
    slower on a quiet one. OpenMP reads the variables when torch is loaded, which is before this function can run.
    """
    if os.name == "posix" and "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        os.execv(sys.executable, sys.orig_argv)


if __name__ == "__main__":
    sys.exit(main())
