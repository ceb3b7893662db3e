"""Stand-ins for published projects: folders with their files' names, imports and calls, written from a description.

`working` ones compute in plain PyTorch and count their calls; `broken` ones are what a fresh checkout is today: each op
raises as it is imported.
"""

from __future__ import annotations

from pathlib import Path

SOURCES = Path(__file__).parent / "published"
OPS = ("bias_act", "upfirdn2d", "conv2d_resample", "conv2d_gradfix", "grid_sample_gradfix", "fma", "filtered_lrelu")
BROKEN = 'raise ImportError("No module named pkg_resources, no compiler: {}")\n'

PLUGINS = """
verbosity = "full"

def get_plugin(module_name, sources, **build_kwargs):
    return "built", module_name, build_kwargs
"""

TOOLS = """
import torch

def profiled_function(fn):
    def decorator(*args, **kwargs):
        return fn(*args, **kwargs)
    decorator.__name__ = fn.__name__
    return decorator

class InfiniteSampler(torch.utils.data.Sampler):
    def __init__(self, dataset):
        super().__init__(dataset)
        self.dataset = dataset

    def __iter__(self):
        while True:
            yield from range(len(self.dataset))
"""

PERSISTENCE = """
import inspect, sys, types, uuid

_sources, _modules = {}, {}

def persistent_class(cls):
    class Decorator(cls):
        def __reduce__(self):
            source = _sources.get(cls.__module__) or inspect.getsource(sys.modules[cls.__module__])
            meta = {"module_src": source, "class_name": cls.__name__, "state": self.__dict__}
            return _reconstruct_persistent_obj, (meta,)
    Decorator.__name__ = cls.__name__
    return Decorator

def _reconstruct_persistent_obj(meta):
    source = meta["module_src"]
    if source not in _modules:
        name = "_imported_module_" + uuid.uuid4().hex
        module = _modules[source] = sys.modules[name] = types.ModuleType(name)
        _sources[name] = source
        exec(source, module.__dict__)
    cls = _modules[source].__dict__[meta["class_name"]]
    found = cls.__new__(cls)
    found.__dict__.update(meta["state"])
    return found
"""

TRAIN = """
import multiprocessing, sys
import torch

def step(queue):
    from torch_utils import misc
    from torch_utils.ops import bias_act, conv2d_gradfix, grid_sample_gradfix
    import training.calls
    from training import networks

    conv2d_gradfix.enabled = grid_sample_gradfix.enabled = True
    torch.manual_seed(0)
    G, D = networks.Generator(), networks.Discriminator()
    opt = torch.optim.Adam(D.parameters(), lr=0.01, betas=[0, 0.99])
    order = iter(misc.InfiniteSampler([1, 2, 3]))
    assert [next(order) for _ in range(4)] == [0, 1, 2, 0]
    real = G(torch.randn([2, 6])).detach().requires_grad_()
    with conv2d_gradfix.no_weight_gradients():
        (gradient,) = torch.autograd.grad(D(real).sum(), real, create_graph=True)
    gradient.square().sum().backward()
    opt.step()
    norm = sum(p.grad.square().sum().item() for p in D.parameters() if p.grad is not None)
    queue.put((bias_act.__doc__, training.calls.modulated, norm))

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=step, args=(queue,))
    child.start()
    print("child", *queue.get(timeout=100), sep="|")
    child.join()
    step(queue)
    print("parent", *queue.get(), sep="|")
    print(sys.argv[1:])
"""


def nvlabs(folder: Path, broken: bool = False) -> Path:
    """A project with `torch_utils`, `training/networks*.py` and `train.py`."""
    write = {"torch_utils/__init__.py": "", "torch_utils/ops/__init__.py": "", "training/__init__.py": ""}
    write |= {"torch_utils/misc.py": TOOLS, "torch_utils/persistence.py": PERSISTENCE, "train.py": TRAIN}
    write["torch_utils/custom_ops.py"] = BROKEN.format("custom_ops") if broken else PLUGINS
    write["training/calls.py"] = "modulated = 0\n"
    for name in ("networks", "networks_stylegan3"):
        write[f"training/{name}.py"] = (SOURCES / f"{name}.py").read_text()
    for name in OPS:
        extra = f"\ndef of_this_fork(x): return ({name!r}, x)\n"
        write[f"torch_utils/ops/{name}.py"] = BROKEN.format(name) if broken else source(name) + extra
    return fill(folder, write)


def rosinality(folder: Path, broken: bool = False, package: str = "op") -> Path:
    """A project with `op` and `model.py`."""
    write = {f"{package}/__init__.py": "from .fused_act import FusedLeakyReLU, fused_leaky_relu\n"}
    write[f"{package}/__init__.py"] += "from .upfirdn2d import upfirdn2d\n"
    write["model.py"] = source("model").replace("from op import", f"from {package.replace('/', '.')} import")
    for name in ("fused_act", "upfirdn2d", "conv2d_gradfix"):
        write[f"{package}/{name}.py"] = BROKEN.format(name) if broken else source(name)
    if not broken:  # its own form of upfirdn2d
        write[f"{package}/upfirdn2d.py"] = source("upfirdn2d").replace("def upfirdn2d(", "def general(") + (
            "\ndef upfirdn2d(input, kernel, up=1, down=1, pad=(0, 0)):\n"
            "    return general(input, kernel, up, down, list(pad) * 2 if len(pad) == 2 else pad)\n"
        )
    for part in Path(package).parents:
        write.setdefault(f"{part}/__init__.py", "")
    write.pop("./__init__.py", None)
    return fill(folder, write)


def source(name: str) -> str:
    return (SOURCES / f"{name}.py").read_text()


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
