"""The line a person watches while a run goes on."""

import sys
import time

try:
    from tqdm import tqdm
except ModuleNotFoundError:
    tqdm = None


class Progress:
    """Shows kimg, images/s, time left and losses: a bar on a terminal, a line per tick in a log file.

    Args:
        start_nimg: Images seen when it starts.
        total_nimg: Images at the end of the run.
    """

    def __init__(self, start_nimg: int, total_nimg: int):
        self.start_nimg = start_nimg
        self.total_nimg = total_nimg
        self.start = self.shown = time.perf_counter()
        self.tick_text = ""
        self.terminal = sys.stderr.isatty()
        self.bar = None
        if tqdm and self.terminal:
            bar_format = "{percentage:3.0f}% {bar} {desc}"
            self.bar = tqdm(total=total_nimg / 1000, initial=start_nimg / 1000, bar_format=bar_format)

    def images_per_second(self, cur_nimg: int) -> float:
        """Real images per second of wall time since it started, pictures and snapshots included."""
        return (cur_nimg - self.start_nimg) / max(time.perf_counter() - self.start, 1e-9)

    def step(self, cur_nimg: int) -> None:
        """Called after each step; redraws a terminal's line four times a second."""
        if self.terminal and time.perf_counter() - self.shown >= 0.25:
            self._redraw(cur_nimg)

    def tick(self, cur_nimg: int, text: str) -> None:
        """Called at the end of each tick with its losses."""
        self.tick_text = text
        if self.terminal:
            self._redraw(cur_nimg)
        else:
            print(self.line(cur_nimg), file=sys.stderr, flush=True)

    def line(self, cur_nimg: int) -> str:
        """kimg, images/s, time left and the last tick's losses."""
        rate = self.images_per_second(cur_nimg)
        left = (self.total_nimg - cur_nimg) / rate if rate else 0.0
        kimg = f"kimg {cur_nimg / 1000:.1f}/{self.total_nimg / 1000:g}"
        return f"{kimg}  {rate:.0f} images/s  {clock(left)} left  {self.tick_text}".rstrip()

    def close(self, cur_nimg: int) -> None:
        """Leaves the last line on the screen and goes to the next."""
        if self.terminal:
            self._redraw(cur_nimg)
        if self.bar is not None:
            self.bar.close()
        elif self.terminal:
            print(file=sys.stderr)

    def _redraw(self, cur_nimg: int) -> None:
        self.shown = time.perf_counter()
        if self.bar is not None:
            self.bar.n = cur_nimg / 1000
            self.bar.set_description_str(self.line(cur_nimg))
        else:
            print(f"\r{self.line(cur_nimg)}\x1b[K", end="", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
