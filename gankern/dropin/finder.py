"""Which module is whose dialect, and how it is supplied: a finder at the head of `sys.meta_path`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

from gankern.dropin import compat, mmcv, networks, nvlabs, rosinality
from gankern.dropin.journal import Journal, parameters

STEMS = {*nvlabs.MODULES, *rosinality.MODULES, "custom_ops"}
BASICSR = ("basicsr.ops.fused_act.fused_act", "basicsr.ops.upfirdn2d.upfirdn2d")


def names_of(name: str, folders: Iterable[str], own: Callable[[str], Any]) -> dict[str, Any] | None:
    """What the module `name` of a GAN project holds, or None if it is not one that gankern supplies.

    Args:
        name: Full name of the module.
        folders: Where its file is, or would be looked for.
        own: Gives an attribute of the project's own module.
    """
    parent, _, stem = name.rpartition(".")
    if stem not in STEMS:
        return None
    if stem in nvlabs.MODULES and _ends_with(parent, "torch_utils.ops", "style_ops"):
        return nvlabs.MODULES[stem]
    if stem == "custom_ops" and _ends_with(parent, "torch_utils"):
        return nvlabs.custom_ops(own)
    if stem in rosinality.MODULES and (_ends_with(name, *BASICSR) or _is_op_folder(folders)):
        return rosinality.MODULES[stem]
    return None


def _ends_with(name: str, *endings: str) -> bool:
    """Whether a dotted name is one of the endings, or lies in a package that vendors it."""
    return any(name == ending or name.endswith(f".{ending}") for ending in endings)


def _is_op_folder(folders: Iterable[str]) -> bool:
    """rosinality's package goes by many names; its files do not."""
    return any(all(os.path.isfile(os.path.join(f, n)) for n in ("fused_act.py", "upfirdn2d.py")) for f in folders)


class Finder(MetaPathFinder):
    """Supplies the modules of the switches that are on; `journals` is one per switch: ops, models, compat."""

    def __init__(self) -> None:
        self.journals: dict[str, Journal] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        journals = dict(self.journals)  # another thread may switch one off
        own = Own(self, name, path)
        names = names_of(name, path or (), own) if "ops" in journals else None
        if names is not None:
            kept = changed_functions(own.source(), names)
            journals["ops"].lines += [f"left alone  {name}.{n}: it has other parameters here" for n in kept]
            names = {n: value for n, value in names.items() if n not in kept}
            return importlib.util.spec_from_loader(name, Supplier(names, own, journals["ops"]))
        if "compat" in journals and name in compat.RENAMED and self.find_own(name, path) is None:
            names = dict(vars(importlib.import_module(compat.RENAMED[name])))
            return importlib.util.spec_from_loader(name, Supplier(names, own, journals["compat"]))
        change = change_after_import(name, journals)
        spec = None if change is None else self.find_own(name, path, target)
        if spec is not None and spec.loader is not None and change is not None:
            spec.loader = Changing(spec.loader, change)
        return spec

    def find_own(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """What would be imported without gankern."""
        finders = [finder for finder in list(sys.meta_path) if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in finders)
        return next((spec for spec in specs if spec is not None), None)

    def switch_on(self, switch: str) -> None:
        """Turns to what is imported already; the rest follows as it is imported."""
        journal = self.journals[switch] = Journal()
        if switch == "compat":
            compat.mend(journal)
        for name, module in list(sys.modules.items()):
            if not isinstance(module, ModuleType):
                continue
            if switch == "ops":
                replace_in_imported(name, module, journal)
            change = change_after_import(name, {switch: journal})
            if change is not None:
                change(module)

    def switch_off(self, switch: str) -> None:
        self.journals.pop(switch).undo()


def change_after_import(name: str, journals: dict[str, Journal]) -> Callable[[Any], None] | None:
    """What is to be done to a module that is imported from its own file."""
    ops, models, mends = (journals.get(switch) for switch in ("ops", "models", "compat"))
    parent, _, stem = name.rpartition(".")
    if parent.startswith("gankern."):
        return None
    if ops is not None and parent == "mmcv.ops" and stem in mmcv.MODULES:
        return lambda module: replace_in_mmcv(module, ops)
    if models is not None and _ends_with(name, "torch_utils.persistence"):
        return lambda module: networks.watch_pickles(module, models)
    if models is not None and networks.NETWORKS.search(name):
        return lambda module: networks.replace_in(module, models)
    if mends is not None and name == "scipy.linalg":
        return lambda module: compat.mend_scipy(module, mends)
    return None


def changed_functions(source: str, names: dict[str, Any]) -> list[str]:
    """Those of `names` that a project has given parameters of its own; it needs its own functions then."""
    kept = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name in names and not node.name.startswith("_"):
            rest = [a for a in (node.args.vararg, node.args.kwarg) if a is not None]
            own = {a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *rest)}
            kept += [node.name] if not own <= {*parameters(names[node.name])} else []
    return kept


def replace_in_imported(name: str, module: ModuleType, journal: Journal) -> None:
    if name.rpartition(".")[2] not in STEMS:
        return
    before = SimpleNamespace(**vars(module))
    folder = os.path.dirname(getattr(module, "__file__", None) or "")
    names = names_of(name, [folder], lambda attribute: getattr(before, attribute))
    if names is None:
        return
    # Its flags and tables are what its users set and read: those stay.
    wanted = {n: value for n, value in names.items() if callable(value) or n not in vars(module)}
    public = {n: value for n, value in wanted.items() if not n.startswith("_")}
    kept = [n for n, value in public.items() if not {*parameters(vars(module).get(n))} <= {*parameters(value)}]
    journal.replace(module, {n: value for n, value in wanted.items() if n not in kept})
    journal.lines.append(f"replaced    {name}")
    journal.lines += [f"left alone  {name}.{n}: it has other parameters here" for n in kept]


def replace_in_mmcv(module: Any, journal: Journal) -> None:
    """mmcv 1 has other parameters under the same names."""
    ours = mmcv.MODULES[module.__name__.rpartition(".")[2]]
    same = {n: f for n, f in ours.items() if parameters(vars(module).get(n)) == parameters(f)}
    journal.replace(module, same)
    for name in ours:
        state = "replaced    " if name in same else "left alone  "
        journal.lines.append(f"{state}{module.__name__}.{name}")


class Own:
    """Attributes of the project's own module under the name of one that gankern supplies; run when first asked."""

    def __init__(self, finder: Finder, name: str, path: Sequence[str] | None) -> None:
        self.finder, self.name, self.path = finder, name, path
        self.module: ModuleType | None = None

    def __call__(self, attribute: str) -> Any:
        if self.module is None:
            self.module = self.load(attribute)
        return getattr(self.module, attribute)

    def source(self) -> str:
        """The text of its file, "" if there is none."""
        spec = self.finder.find_own(self.name, self.path)
        get_source = getattr(spec.loader, "get_source", None) if spec is not None else None
        return (get_source(self.name) or "") if get_source is not None else ""

    def load(self, attribute: str) -> ModuleType:
        """Only for a name that stands in its source: running it may compile, or fail."""
        spec = self.finder.find_own(self.name, self.path)
        if spec is None or spec.loader is None or not re.search(rf"\b{re.escape(attribute)}\b", self.source()):
            raise AttributeError(f"module {self.name}, which gankern supplies, has no attribute {attribute}")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            message = f"{self.name}.{attribute} is not gankern's, and the project's own file does not run: {error}"
            raise AttributeError(message) from error
        return module


class Supplier(Loader):
    """A module with gankern's names; any other name is the project's own."""

    def __init__(self, names: dict[str, Any], own: Own, journal: Journal) -> None:
        self.names, self.own, self.journal = names, own, journal

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        def __getattr__(attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(f"module {module.__name__} has no attribute {attribute}")
            value = self.own(attribute)
            self.journal.lines.append(f"own         {module.__name__}.{attribute}: not gankern's")
            setattr(module, attribute, value)
            return value

        vars(module).update({name: value for name, value in self.names.items() if not name.startswith("__")})
        vars(module).update(__getattr__=__getattr__, __doc__="Supplied by gankern.patch().")
        self.journal.supplied[module.__name__] = module
        self.journal.lines.append(f"supplied    {module.__name__}")


class Changing(Loader):
    """Runs a module's own loader, then a change."""

    def __init__(self, inner: Any, change: Callable[[Any], None]) -> None:
        self.inner, self.change = inner, change

    def create_module(self, spec: ModuleSpec) -> Any:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.inner  # nobody need know
        if module.__spec__ is not None:
            module.__spec__.loader = self.inner
        self.inner.exec_module(module)
        self.change(module)
