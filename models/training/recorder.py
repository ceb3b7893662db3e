"""Everything that a run shows while it goes on: the line, stats.jsonl, pictures, the report, TensorBoard and W&B."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .. import watch
from ..ranks import rank
from .faults import warn
from .options import TrainingOptions
from .pace import Pace
from .progress import Progress, clock
from .report import write_curves, write_report
from .resources import memory_gb
from .run_folder import append_note, append_stats, read_metrics, read_stats
from .run_log import LOG
from .schedule import Stage, lod
from .state import TrainingState
from .stats import Summary, summarise
from .trackers import Tracker

SHOWN = {  # while training: name of a statistic, and how it is printed
    "Loss/G/loss": "G {:.2f}",
    "Loss/D/loss": "D {:.2f}",
    "Loss/r1_penalty": "R1 {:.2f}",
    "Loss/gp_penalty": "GP {:.2f}",
    "Progress/augment": "p {:.3f}",
    "Resources/peak_cpu_mem_gb": "{:.1f} GB",
    "Resources/peak_gpu_mem_gb": "GPU {:.1f} GB",
}


class Recorder:
    """Collects and writes what a run shows; what cannot be written is said once, and the run goes on.

    Args:
        run_dir: Folder of the run.
        state: The run; its statistics and timer are read at the end of each tick.
        options: The run's options.
        trackers: Who else is told.
    """

    def __init__(self, run_dir: Path, state: TrainingState, options: TrainingOptions, trackers: Sequence[Tracker] = ()):
        self.run_dir = run_dir
        self.state = state
        self.options = options
        self.trackers = trackers
        self.status = "running"
        self.failed: set[str] = set()
        self.metrics_told = len(read_metrics(run_dir))
        ticks = read_stats(run_dir)
        self.total_before = ticks[-1].get("Timing/total_sec", {}).get("mean", 0.0) if ticks else 0.0
        self.pace = Pace(options, state.cur_nimg, ticks)
        self.progress = Progress(round(options.kimg * 1000), self.pace, run_dir / LOG)
        self.start = self.tick_end = self.tick_start = time.perf_counter()
        self.tick_start_nimg = state.cur_nimg
        if state.cur_nimg:
            self.note("resumed")

    def begin_tick(self) -> None:
        """Training goes on: what was done since the end of the tick before was maintenance."""
        self.tick_start, self.tick_start_nimg = time.perf_counter(), self.state.cur_nimg

    def step(self, now: Stage) -> None:
        """Called after each step with its stage."""
        self.pace.step(self.state.cur_nimg, now.resolution)
        self.attempt("the progress line", self.progress.step)

    def end_tick(self, now: Stage) -> None:
        """Reads the tick's statistics, writes their line, and shows them.

        Raises:
            FloatingPointError: A loss became NaN or infinite; nothing of the tick is written.
        """
        summary = self.state.stats.summary()
        measured = {f"Timing/{name}": ms for name, ms in self.state.timer.read().items()}
        single = self._progress(now) | self._times() | memory_gb(self.state.device)
        summary |= {name: summarise(ms) for name, ms in measured.items()}
        summary |= {name: summarise([value]) for name, value in single.items()}
        self.attempt("stats.jsonl", lambda: append_stats(self.run_dir, summary))
        self._scalars({name: value["mean"] for name, value in summary.items()})
        self.attempt("the progress line", lambda: self.progress.tick(_shown(summary, now)))

    def pictures(self, write: Callable[[], Path]) -> None:
        """Makes the sample grid of this moment by `write`, and brings the report up to it."""
        with self.state.timer.host("pictures"):
            self.attempt("sample grids", lambda: self._picture("fakes", write()))
            self.report()

    def reals(self, write: Callable[[], Path]) -> None:
        """Makes the grid of real images by `write`."""
        self.attempt("reals.png", lambda: self._picture("reals", write()))

    def report(self) -> None:
        """Writes the curves and report.html as the run stands."""
        left = self.pace.seconds_left()
        results = {} if left is None or self.status != "running" else {"time left": clock(left)}
        self.attempt("curves.svg", lambda: write_curves(self.run_dir))
        self.attempt("report.html", lambda: write_report(self.run_dir, results, self.status))

    def metrics(self) -> None:
        """Tells the trackers of the measurements that are new in the run folder."""
        if self.trackers:
            self.attempt("metrics to the trackers", self._new_metrics)

    def note(self, text: str) -> None:
        """Adds something to the run's notes, which the report shows."""
        self.attempt("notes.jsonl", lambda: append_note(self.run_dir, self.state.cur_nimg, text))

    def close(self, write: Callable[[], Path]) -> None:
        """The run has come to an end: its last sample grid by `write`, the report, and the end of line and trackers."""
        finished = self.state.cur_nimg >= self.progress.total_nimg
        self.status = "finished" if finished else "stopped"
        if not finished:
            self.note("stopped")
        self.pictures(write)
        self.attempt("the progress line", self.progress.close)
        self.tell(lambda tracker: tracker.close())

    def tell(self, call: Callable[[Tracker], None]) -> None:
        """Calls something of each tracker."""
        for tracker in self.trackers:
            self.attempt(tracker.name, partial(call, tracker))

    def attempt(self, what: str, write: Callable[[], object]) -> None:
        """Calls `write` on the first rank; if it fails says so, but once for each `what`."""
        if rank() > 0:
            return
        try:
            with watch.busy():
                write()
        except Exception as error:  # whatever it is, it is worth less than the run
            if what in self.failed:
                return
            self.failed.add(what)
            reason = str(error).partition("\n")[0] or type(error).__name__
            warn(f"cannot write {what} ({reason}); the run goes on")
            self.note(f"could not write {what}: {reason}")

    def _scalars(self, values: dict[str, float]) -> None:
        self.tell(lambda tracker: tracker.scalars(self.state.cur_nimg, values))

    def _new_metrics(self) -> None:
        measured = read_metrics(self.run_dir)
        for values in measured[self.metrics_told :]:
            self._scalars({f"Metrics/{name}": value for name, value in values.items() if name != "kimg"})
        self.metrics_told = len(measured)

    def _picture(self, name: str, path: Path) -> None:
        self.tell(lambda tracker: tracker.picture(self.state.cur_nimg, name, path))

    def _progress(self, now: Stage) -> dict[str, float]:
        cur_nimg = self.state.cur_nimg
        tick_nimg = max(round(self.options.tick_kimg * 1000), 1)
        found: dict[str, float] = {"Progress/tick": cur_nimg // tick_nimg, "Progress/kimg": cur_nimg / 1000}
        if now.resolution is not None:
            found |= {"Progress/resolution": now.resolution, "Progress/alpha": now.alpha}
            found["Progress/lod"] = lod(self.options, now)
        return found

    def _times(self) -> dict[str, float]:
        """Of the tick that ends now; `maintenance_sec` is what went before it: pictures, snapshots, metrics."""
        now, images = time.perf_counter(), self.state.cur_nimg - self.tick_start_nimg
        seconds, maintenance = max(now - self.tick_start, 1e-9), self.tick_start - self.tick_end
        self.tick_end = now
        return {
            "Timing/images_per_sec": images / seconds,
            "Timing/sec_per_tick": seconds,
            "Timing/sec_per_kimg": 1000 * seconds / images,
            "Timing/maintenance_sec": maintenance,
            "Timing/total_sec": self.total_before + now - self.start,
        }


def _shown(summary: Summary, now: Stage) -> str:
    """The part of the progress line that changes from tick to tick."""
    texts = [text.format(summary[name]["mean"]) for name, text in SHOWN.items() if name in summary]
    if now.resolution is not None:
        fading = f" fading in, alpha {now.alpha:.2f}" if now.fading else ""
        texts.insert(0, f"{now.resolution}x{now.resolution}{fading}")
    return "  ".join(texts)
