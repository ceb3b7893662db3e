"""Many short runs of the command, each in a process of its own that starts at once: forked from one that has imported.

Run as a program it forks a child for each line of JSON {"argv", "log"} on its standard input, in which
`gankern.models.cli.main(argv)` runs as it would in a new process, and prints the child's number and then its status.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

TICK = 0.032  # kimg

# What makes the demonstrations tiny, with a snapshot every 32 images.
OFTEN = {"tick": TICK, "snap": 1, "image_snap": 4}
SMALL: dict[str, dict[str, Any]] = {
    "stylegan2": {**OFTEN, "fmaps": 1 / 512, "channel_max": 8, "dims": 8, "map_depth": 1, "pl_weight": 2.0},
    "progan": {**OFTEN, "train": 0.032, "fade": 0.064, "batch": (8,), "dims": 8, "fmap_base": 32, "fmap_max": 8},
    "biggan": {**OFTEN, "batch": 8, "at_once": 8, "ch": 8, "z": 8, "shared": 4, "standing": 1, "ema_start": 2},
}
COMMON = ["--cond", "0", "--device", "cpu", "--precision", "fp32", "--batch", "8"]
RUNS = {
    "stylegan2": ["--cfg", "digits", "--data", "digits:8", "--kimg", "0.16"],
    "progan": ["--cfg", "progan-digits", "--data", "digits:16", "--kimg", "0.16"],
    "biggan": ["--cfg", "biggan-digits", "--data", "digits:16", "--kimg", "0.096"],
}


class Ended(NamedTuple):
    status: int  # of the process; -N where signal N ended it
    text: str  # what it printed


class Child:
    """One run of the command."""

    def __init__(self, zygote: Zygote, pid: int, log: Path):
        self.zygote, self.pid, self.log = zygote, pid, log
        self.ended: Ended | None = None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def running(self) -> bool:
        """Whether it has not ended; a process that nobody has waited for is a zombie, `Z`."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    def wait(self) -> Ended:
        if self.ended is None:
            self.ended = Ended(self.zygote.answer(), self.text())
        return self.ended


class Zygote:
    """Starts runs one at a time."""

    def __init__(self) -> None:
        pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process: subprocess.Popen[str] = subprocess.Popen([sys.executable, __file__], **pipe)  # type: ignore[call-overload]

    def start(self, argv: list[str], log: Path) -> Child:
        assert self.process.stdin
        log.unlink(missing_ok=True)
        self.process.stdin.write(json.dumps({"argv": argv, "log": str(log)}) + "\n")
        self.process.stdin.flush()
        return Child(self, self.answer(), log)

    def answer(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def shrink_presets() -> None:
    """Makes the demonstrations of this process tiny."""
    from gankern.models.presets import biggan, progan, stylegan2

    for module, name in ((stylegan2, "digits"), (progan, "progan-digits"), (biggan, "biggan-digits")):
        small = SMALL[module.__name__.rpartition(".")[2]]
        module.PRESETS[name] = replace(module.PRESETS[name], **small)  # type: ignore[index]


def _serve() -> None:
    import tempfile

    from gankern.models import cli

    shrink_presets()
    for name in RUNS:  # what a run imports when it begins need not be imported by each of them; no thread starts
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(None):
            cli.main(["train", *RUNS[name], *COMMON, "--outdir", folder, "-n"])
    import gankern.models.training.loop
    import gankern.models.training.report  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(cli.main, request["argv"], request["log"])
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(main: Any, argv: list[str], log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    status = 1
    try:
        status = main(argv)
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
