"""What every test runs under: memory that nobody wrote is NaN, few threads, and the backends that can run here."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="gankern-tests-")  # not the user's
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads of a loaded machine cost 3 to 5 times the work

import pytest
import torch

from gankern import convolution_table, dispatch

torch.set_num_threads(min(2, torch.get_num_threads()))

# Deterministic mode fills aten::empty* with NaN, whether Python or a C++ kernel asks for the memory: an output
# element that a kernel forgets to write then fails the comparison, instead of holding an old and often right value.
torch.use_deterministic_algorithms(True, warn_only=True)
torch.utils.deterministic.fill_uninitialized_memory = True

atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Neither the table of this machine nor the one that is brought decides here, nor in processes that tests start:
# Winograd's kernels take all but the small.
convolution_table.save(
    {
        convolution_table.key(what, dtype, layout, channels, tiles): 2.0 if channels >= 32 and tiles >= 16 else 0.5
        for what in convolution_table.WHAT
        for dtype in convolution_table.DTYPES.values()
        for layout in convolution_table.LAYOUTS
        for channels in convolution_table.CHANNELS
        for tiles in convolution_table.TILES
    },
    {},
)

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
PAIRS = [
    (backend, device)
    for device in DEVICES
    for backend in dispatch.BACKENDS
    if any(dispatch.why_not(op, backend, device) is None for op in dispatch.OPS)
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random inputs are the same in every run, whatever tests ran before."""
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kernels: only on backends with kernels of their own, not on `eager`")
    config.addinivalue_line("markers", "slow: builds or starts Python anew; leave out with -m 'not slow'")


@pytest.hookimpl(trylast=True)  # after the marks of the test, so that its id ends in "-native-cpu"
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the arguments `backend` and `device` runs once for each pair that can run here."""
    if "backend" in metafunc.fixturenames:
        kernels = metafunc.definition.get_closest_marker("kernels") is not None
        pairs = [pair for pair in PAIRS if not (kernels and pair[0] == "eager")]
        metafunc.parametrize("backend, device", pairs, ids=["-".join(pair) for pair in pairs])
