"""What each process of the tests of distributed training runs: `python rank_program.py CASES FOLDER`."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from tiny import OPTIONS, tiny_state
from tiny_growing import PROGAN as GROWING
from tiny_growing import GrowingDiscriminator, GrowingGenerator
from torch import nn

from gankern.models import watch
from gankern.models.config import resolve
from gankern.models.join import joined
from gankern.models.presets import biggan
from gankern.models.ranks import rank, world_size
from gankern.models.stylegan2 import Discriminator, Generator
from gankern.models.training import loop
from gankern.models.training.checkpoint import latest_snapshot, load_snapshot
from gankern.models.training.data import batch_indices, batches, open_data
from gankern.models.training.distributed import together
from gankern.models.training.loop import images_of, stop_on_signal, train, train_step
from gankern.models.training.options import TrainingOptions
from gankern.models.training.phases import make_phases
from gankern.models.training.state import new_state

CPU = torch.device("cpu")
PL = replace(OPTIONS, batch=16, style_mixing_prob=0.0, mbstd_global=True, ema_kimg=0.1)
R1 = replace(GROWING, gp_weight=0.0, r1_gamma=2.0, r1_interval=1)


def stylegan2() -> tuple[nn.Module, nn.Module]:
    """StyleGAN2 with constant noise, and groups of images that are larger than a rank's part of what goes at once."""
    size = {"img_resolution": 8, "img_channels": 1, "channel_base": 64, "channel_max": 8}
    G = Generator(8, 10, 8, **size, mapping_kwargs={"num_layers": 2})
    G.synthesis.register_forward_pre_hook(
        lambda module, args, kwargs: (args, {**kwargs, "noise_mode": "const"}), with_kwargs=True
    )
    return G, Discriminator(10, **size, epilogue_kwargs={"mbstd_group_size": 8})


def biggan32() -> tuple[nn.Module, nn.Module]:
    model, _ = resolve("biggan-digits", 32, 1, 10)
    return biggan.build(replace(model, ch=4, z_dim=8, base=4, attention=()))


def biggan_options() -> TrainingOptions:
    _, training = resolve("biggan-digits", 32, 1, 10)
    return replace(training, batch=16, d_steps=2, ortho_strength=1e-4, sync_bn=True, ema_start=2)


# Networks, options, images that go through the networks at once over all ranks, steps, data.
EQUAL: dict[str, tuple[Callable[[], tuple[nn.Module, nn.Module]], TrainingOptions, int | None, int, str]] = {
    "stylegan2": (stylegan2, PL, 8, 20, "digits:8"),
    "biggan": (biggan32, biggan_options(), None, 4, "digits:32"),
    "biggan-in-parts": (biggan32, replace(biggan_options(), sn_once=True), 8, 3, "digits:32"),
    "growing": (lambda: (GrowingGenerator(), GrowingDiscriminator()), R1, None, 20, "digits:16"),
}


def equal(name: str, folder: Path) -> None:
    """Trains in float64, with nothing that is random for single images, and saves the whole state."""
    torch.set_default_dtype(torch.float64)
    torch.randn_like, randn_like = torch.ones_like, torch.randn_like  # in the path length
    loop.to_float, to_float = (lambda x: x / 127.5 - 1), loop.to_float
    networks, options, at_once, steps, source = EQUAL[name]
    options = replace(options, batch_gpu=at_once and at_once // world_size())
    torch.manual_seed(1 + rank())  # the first rank's networks count
    state, data = new_state(*networks(), options, CPU), open_data(source, cond=True)
    phases, reals = make_phases(state, options), batches(data, images_of(options), options.seed)
    for _ in range(steps):
        train_step(state, phases, options, data, *next(reals))
    save(folder, name, {**state.state_dict(), "mean_stats": state.stats.summary()})
    torch.randn_like, loop.to_float = randn_like, to_float
    torch.set_default_dtype(torch.float32)


def resume(folder: Path) -> None:
    """A whole run, and one that stops within a tick and goes on, both with noise inside the networks."""
    data = open_data("digits:8", cond=True)
    for name, stops in (("whole", [999]), ("parts", [7, 999])):
        run_dir = folder / name
        run_dir.mkdir(exist_ok=True)
        for stop in stops:
            state = tiny_state()
            torch.manual_seed(99)
            snapshot = latest_snapshot(run_dir)
            if snapshot:
                state.load_state_dict(load_snapshot(snapshot)[0])
            train(state, data, OPTIONS, run_dir, {}, stop=lambda at=stop, s=state: s.cur_nimg >= at * OPTIONS.batch)
        save(folder, name, state.state_dict())


def facts(folder: Path) -> None:
    """What single functions find on this rank."""
    state, data = tiny_state(), open_data("digits:8", cond=True)
    indices = batch_indices(20, 8, 0, 0)
    found = {"indices": [next(indices).tolist() for _ in range(5)]}
    found |= {"z": state.random.latents(8, 4), "c": state.random.labels(data, 8), "noise": torch.randn(5)}
    calls: Iterator[int] = iter(range(100))
    stop = together(lambda: next(calls) == 3 and rank() == world_size() - 1)
    found["stops"] = [stop() for _ in range(7)]
    try:
        tiny_state(replace(OPTIONS, batch=9))
    except ValueError as error:
        found["batch"] = str(error)
    if rank() == 1:
        state.D.out.bias.data[0] = torch.nextafter(state.D.out.bias.data[0], torch.tensor(9.0))
    try:
        state.state_dict()
    except ValueError as error:
        found["differ"] = str(error)
    save(folder, "facts", found)


def endless(folder: Path) -> None:
    """Trains until something happens to it; the second rank has an accident where the folder asks for one."""
    state, data = tiny_state(), open_data("digits:8", cond=True)
    watch.advise(lambda: "; to continue: HOW")
    (folder / f"pid{rank()}").write_text(str(os.getpid()))
    with stop_on_signal() as stopped:
        stop = together(stopped)

        def accident() -> bool:
            if rank() == 1 and state.cur_nimg == 80 and (folder / "raise").exists():
                raise ValueError("there is something wrong with rank 1")
            if rank() == 1 and state.cur_nimg == 80 and (folder / "hang").exists():
                time.sleep(1000)
            (folder / f"step{rank()}").write_text(str(state.cur_nimg))
            return stop()

        train(state, data, replace(OPTIONS, kimg=1e9, tick_kimg=1e6), folder, {}, stop=accident)
    save(folder, "stopped", {"cur_nimg": state.cur_nimg})


def save(folder: Path, name: str, content: object) -> None:
    torch.save(content, folder / f"{name}-{rank()}of{world_size()}.pt")


def main(names: str, folder: Path) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts tests may ignore it
    with joined(CPU, "test", timeout=float(os.environ.get("TIMEOUT", "60"))):
        for name in names.split(","):
            case: Callable[[Path], None] | None = {"resume": resume, "facts": facts, "endless": endless}.get(name)
            if case is None:
                equal(name, folder)
            else:
                case(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
