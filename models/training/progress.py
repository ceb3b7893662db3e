"""The line a person watches while a run goes on."""

import shutil
import sys
import time
from pathlib import Path

from .pace import Pace

try:
    from tqdm import tqdm
except ModuleNotFoundError:
    tqdm = None


class Progress:
    """Shows kimg, images/s, time left and losses: a bar on a terminal, else a line per tick.

    Args:
        total_nimg: Images at the end of the run.
        pace: What knows the speed and the time left.
        log: A file that gets the line of each tick where a bar is drawn over and over in its place.
    """

    def __init__(self, total_nimg: int, pace: Pace, log: Path | None = None):
        self.total_nimg = total_nimg
        self.pace = pace
        self.log = log
        self.shown = time.perf_counter()
        self.tick_text = ""
        self.terminal = sys.stderr.isatty()
        self.bar = None
        if tqdm and self.terminal:
            bar_format = "{percentage:3.0f}% {bar} {desc}"
            self.bar = tqdm(total=total_nimg / 1000, initial=pace.nimg / 1000, bar_format=bar_format)

    def step(self) -> None:
        """Called after each step; redraws a terminal's line four times a second."""
        if self.terminal and time.perf_counter() - self.shown >= 0.25:
            self._redraw()

    def tick(self, text: str) -> None:
        """Called at the end of each tick with its losses."""
        self.tick_text = text
        if not self.terminal:
            print(self.line(), file=sys.stderr, flush=True)
            return
        self._redraw()
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{self.line()}\n")

    def line(self) -> str:
        """kimg, images/s at the present resolution, time left and the last tick's losses."""
        left = self.pace.seconds_left()
        kimg = f"kimg {self.pace.nimg / 1000:.1f}/{self.total_nimg / 1000:g}"
        remaining = "" if left is None else f"{clock(left)} left  "
        return f"{kimg}  {self.pace.current():.0f} images/s  {remaining}{self.tick_text}".rstrip()

    def close(self) -> None:
        """Leaves the last line on the screen and goes to the next."""
        if self.terminal:
            self._redraw()
        if self.bar is not None:
            self.bar.close()
        elif self.terminal:
            print(file=sys.stderr)

    def _redraw(self) -> None:
        self.shown = time.perf_counter()
        if self.bar is not None:
            self.bar.n = self.pace.nimg / 1000
            self.bar.set_description_str(self.line())
        else:
            width = shutil.get_terminal_size().columns - 1  # a longer line would not be drawn over
            print(f"\r{self.line()[:width]}\x1b[K", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """m:ss, h:mm:ss from an hour on, and days before that from a day on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02d}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
