"""The `gankern` command and its subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from . import (
    convert_command,
    dataset_command,
    evaluate,
    explore,
    export_command,
    interpolate,
    project,
    sample,
    style_mix,
    train,
)
from .config import FAMILIES

EXAMPLES = """examples:
  gankern train                                        ten digits, from scratch, in about three minutes
  gankern train --cfg progan-digits                    the same digits, growing from 4x4 to 32x32
  gankern train --data photos:64 --kimg 100            crops of photographs, 64x64
  gankern train --data faces.zip --cfg paper256        your images: docs/data.md says which files
  gankern dataset photos/ a.gankern --resolution 256x256    image files of any size, made one file that training reads
  gankern train --data faces.zip --cfg stylegan -n     how a run would go: networks, options, growth; no training
  gankern train --resume latest                        continue the newest run exactly where it stopped
  gankern sample runs/00000-digits-cond --seeds 0-15   images from a run
  gankern explore runs/00000-digits-cond --open        the same in the browser, with sliders
  gankern interpolate runs/00000-digits-cond           a video from image to image
  gankern evaluate runs/00000-digits-cond              SWD and MS-SSIM of its generator: no weights needed
  gankern sample stylegan2.pkl --trunc 0.7             images from a published checkpoint, of any project
  gankern convert stylegan2.pkl ours.safetensors       the same without pickles; --to names other formats
  gankern export runs/00000-digits-cond digits.onnx    a generator for other runtimes; also .pt2
  gankern doctor                                       what is installed, what works, and why not the rest
"""

CONFIGURATIONS = "configurations (--cfg):\n" + "\n".join(
    f"  {family:10} {', '.join(entry.presets)}" for family, entry in FAMILIES.items()
)

WORDLESS = {KeyboardInterrupt: "interrupted", MemoryError: "out of memory"}
COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "train": (train.add_options, "train a model; with no options, the digits"),
    "sample": (sample.add_options, "make images with a trained model"),
    "style-mix": (style_mix.add_options, "mix the layers of several images"),
    "interpolate": (interpolate.add_options, "make a video from image to image, in a loop"),
    "project": (project.add_options, "find the styles that draw an image of yours"),
    "explore": (explore.add_options, "try a model out in the browser"),
    "evaluate": (evaluate.add_options, "measure a trained model: SWD, MS-SSIM, FID, ..."),
    "dataset": (dataset_command.add_options, "make a data set of image files, LSUN, CIFAR-10 or MNIST"),
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
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError, MemoryError, KeyboardInterrupt) as error:
        for line in (_sentence(error), *getattr(error, "__notes__", [])):
            print(f"gankern {args.command}: {line}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


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


def _sentence(error: BaseException) -> str:
    """What an exception says; of one that the system raised, the file and the reason."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or WORDLESS.get(type(error), type(error).__name__)


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
