"""Who else is told how a run goes: TensorBoard and Weights & Biases, each only where it is installed."""

import argparse
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .png import read_png


class Tracker(Protocol):
    """Receives what a run shows. Any of its methods may fail, which does not stop the run."""

    name: str

    def scalars(self, cur_nimg: int, values: dict[str, float]) -> None:
        """Values by name after so many images."""

    def picture(self, cur_nimg: int, name: str, path: Path) -> None:
        """A picture of ours (`png.write_png`) after so many images."""

    def close(self) -> None:
        """Nothing will follow."""


class TensorBoard:
    """Event files in the run folder; `tensorboard --logdir runs` shows them. The step is the number of real images.

    Args:
        run_dir: Folder of the run.
        cur_nimg: Images seen when it starts; what a run that is resumed wrote after them is hidden.
    """

    name = "TensorBoard"

    def __init__(self, run_dir: Path, cur_nimg: int):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(run_dir), purge_step=cur_nimg + 1 if cur_nimg else None)

    def scalars(self, cur_nimg: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, cur_nimg)
        self.writer.flush()

    def picture(self, cur_nimg: int, name: str, path: Path) -> None:
        self.writer.add_image(name, read_png(path), cur_nimg, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of a W&B project, over kimg. Its own settings hold: `WANDB_MODE=offline`, the key, the entity.

    Args:
        run_dir: Folder of the run; a resumed run goes on under the name that is kept there.
        project: Name of the project.
        config: The run's configuration.
    """

    name = "W&B"

    def __init__(self, run_dir: Path, project: str, config: dict[str, Any]):
        self.wandb = importlib.import_module("wandb")
        kept = run_dir / "wandb-id.txt"
        known = kept.read_text().strip() if kept.exists() else None
        self.run = self.wandb.init(
            project=project, name=run_dir.name, dir=str(run_dir), config=config, id=known, resume="allow"
        )
        kept.write_text(f"{self.run.id}\n")
        self.run.define_metric("*", step_metric="Progress/kimg")

    def scalars(self, cur_nimg: int, values: dict[str, float]) -> None:
        self.run.log({**values, "Progress/kimg": cur_nimg / 1000})

    def picture(self, cur_nimg: int, name: str, path: Path) -> None:
        self.run.log({name: self.wandb.Image(str(path)), "Progress/kimg": cur_nimg / 1000})

    def close(self) -> None:
        self.run.finish()


def add_tracker_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say who is told."""
    group = parser.add_argument_group("tracking", "what else a run writes: docs/run-folder.md")
    add = group.add_argument
    add("--tensorboard", choices=("0", "1"), help="write TensorBoard's events [1 if it is installed]")
    add("--wandb", metavar="PROJECT", help="tell Weights & Biases, too [no]")


def open_trackers(args: argparse.Namespace, run_dir: Path, cur_nimg: int, config: dict[str, Any]) -> list[Tracker]:
    """Those that the options ask for; one that cannot start is left out, with a line that says why.

    Args:
        args: With the options of `add_tracker_options`.
        run_dir: Folder of the run.
        cur_nimg: Images seen when it starts.
        config: The run's configuration.
    """
    wanted: dict[str, Callable[[], Tracker]] = {}
    if args.tensorboard == "1" or (args.tensorboard is None and importlib.util.find_spec("tensorboard")):
        wanted[TensorBoard.name] = lambda: TensorBoard(run_dir, cur_nimg)
    if args.wandb:
        wanted[WeightsAndBiases.name] = lambda: WeightsAndBiases(run_dir, args.wandb, config)
    trackers = []
    for name, start in wanted.items():
        try:
            trackers.append(start())
        except Exception as error:  # whatever it is, the run does not need it
            print(f"gankern train: goes on without {name} ({type(error).__name__}: {error})")
    return trackers
