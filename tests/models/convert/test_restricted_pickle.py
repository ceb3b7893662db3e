"""A pickle is data or it is refused: nothing that it names is imported, called or opened."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import re
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gankern.models import convert
from gankern.models.convert.reading import KNOWN
from gankern.models.convert.restricted_pickle import Function, Stub, unpickle

DANGEROUS = ("os.system", "exec", "subprocess.Popen", "import", "socket.connect", "pty.spawn", "os.exec")
watched: list[str] | None = None  # what happened while a file was read; audit hooks cannot be removed


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if watched is None:
        return
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if event in DANGEROUS or writes:
        watched.append(f"{event} {args[:1]}")


sys.addaudithook(_audit)


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[bytes], str]:
    """Loads bytes as a file, checks that they are refused in one line and that nothing ran, and returns the line."""

    def load(content: bytes) -> str:
        global watched
        path = tmp_path / "bad.pkl"
        path.write_bytes(content)
        watched = seen = []
        try:
            with pytest.raises(ValueError) as refused:
                convert.load(path)
        finally:
            watched = None
        assert seen == []
        assert not Path("canary").exists()
        message = str(refused.value)
        assert len(message.splitlines()) == 1
        assert "bad.pkl" in message
        return message

    for name in ("zipfile", "safetensors", "encodings.cp437", "encodings.raw_unicode_escape"):
        __import__(name)  # so that reading does not import them
    return load


def test_the_watch_notices_what_an_ordinary_unpickler_does() -> None:
    global watched
    watched = seen = []
    try:
        pickle.loads(pickle.dumps(Calls(os.system, "true")))
    finally:
        watched = None
    assert any("os.system" in event for event in seen)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *args: Any, state: Any = None) -> None:
        self.function, self.args, self.state = function, args, state

    def __reduce__(self) -> Any:
        return (self.function, self.args) if self.state is None else (self.function, self.args, self.state)


def text(module: str, name: str, argument: str = "touch canary") -> bytes:
    """Protocol 0: name and call, by hand, for what cannot be imported or pickled here."""
    return f"c{module}\n{name}\n(S'{argument}'\ntR.".encode()


def stacked(module: str, name: str, argument: str = "touch canary") -> bytes:
    """Protocol 4, where names come from the stack."""

    def string(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + string(module) + string(name) + b"\x93" + string(argument) + b"\x85R."


FUNCTIONS = [
    *(("os", "system"), ("posix", "system"), ("nt", "system"), ("os", "popen"), ("os", "execv"), ("os", "remove")),
    *(("subprocess", "Popen"), ("subprocess", "check_output"), ("subprocess", "run"), ("pty", "spawn")),
    *(("builtins", "eval"), ("builtins", "exec"), ("builtins", "compile"), ("builtins", "__import__")),
    *(("builtins", "open"), ("builtins", "getattr"), ("builtins", "setattr"), ("builtins", "globals")),
    *(("__builtin__", "eval"), ("__builtin__", "execfile"), ("builtins", "input"), ("builtins", "breakpoint")),
    *(("importlib", "import_module"), ("runpy", "run_path"), ("code", "interact"), ("timeit", "timeit")),
    *(("pickle", "loads"), ("_pickle", "loads"), ("marshal", "loads"), ("shelve", "open"), ("types", "FunctionType")),
    *(("torch", "load"), ("torch.jit", "load"), ("torch.hub", "load"), ("torch.storage", "_load_from_bytes.__call__")),
    *(("torch.serialization", "load"), ("numpy", "load"), ("numpy.testing._private.utils", "runstring")),
    *(("torch._dynamo.guards", "eval"), ("torch.fx.graph_module", "reduce_graph_module"), ("torch._utils", "_import")),
    *(("functools", "partial"), ("operator", "attrgetter"), ("operator", "methodcaller"), ("socket", "fromfd")),
    *(("urllib.request", "urlopen"), ("webbrowser", "open"), ("ctypes", "CDLL"), ("shutil", "rmtree")),
    *(("collections", "OrderedDict.__init__"), ("torch_utils.persistence", "_src_to_module"), ("asyncio", "run")),
    *(("gankern.models.convert.reading", "read"), ("site", "main"), ("antigravity", "fly"), ("", ""), ("os.path", "x")),
]


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def legacy(data: bytes) -> bytes:
    """A file of torch.save from before it wrote zip files, whose content is the given pickle."""
    whole = io.BytesIO()
    torch.save(None, whole, _use_new_zipfile_serialization=False)
    return whole.getvalue().replace(pickle.dumps(None, protocol=2), data, 1)


@pytest.mark.parametrize("write", [text, stacked], ids=["global", "stack_global"])
@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_a_function_is_refused_by_its_name(
    refusal: Callable[[bytes], str], module: str, name: str, write: Callable[[str, str], bytes]
) -> None:
    full = f"{module.replace('__builtin__', 'builtins')}.{name}"
    assert f"refers to {full!r}, which is refused" in refusal(write(module, name))


@pytest.mark.parametrize("wrap", [bytes, zipped, legacy], ids=["pickle", "zip", "legacy"])
@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_in_every_kind_of_file(refusal: Callable[[bytes], str], wrap: Any, protocol: int) -> None:
    attack = {"G_ema": Calls(os.system, "touch canary")}
    assert f"refers to '{os.name}.system'" in refusal(wrap(pickle.dumps(attack, protocol=protocol)))


def nested_in_storage() -> bytes:
    inner = legacy(pickle.dumps(Calls(os.system, "touch canary"), protocol=2))
    return pickle.dumps(Calls(torch.storage._load_from_bytes, inner), protocol=2)


def twice_nested() -> bytes:
    inner = legacy(pickle.dumps(Calls(torch.storage._load_from_bytes, b""), protocol=2))
    return pickle.dumps(Calls(torch.storage._load_from_bytes, inner), protocol=2)


def global_of(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


ORDERED_DICT = global_of("collections.OrderedDict")
PERSISTENT = global_of("torch_utils.persistence._reconstruct_persistent_obj")
TWISTED = {
    "a call in a call's arguments": (pickle.dumps(Calls(print, Calls(eval, "1"))), "builtins.print"),
    "a call in an object's state": (pickle.dumps(Calls(dict, state={"x": Calls(eval, "1")})), "builtins.eval"),
    "within a storage": (nested_in_storage(), "system"),
    "a storage within a storage": (twice_nested(), "_load_from_bytes"),
    "a call of a result": (ORDERED_DICT + b")R(S'x'\ntR.", "calls dict"),
    "a call of a string": (b"\x80\x02S'os.system'\n(S'x'\ntR.", "calls str"),
    "a call with arguments that are no tuple": (ORDERED_DICT + b"]R.", "calls Function"),
    "the state of a function": (ORDERED_DICT + b"}S'call'\nNsb.", "state of Function"),
    "the state of a number": (b"\x80\x02K\x01}b.", "state of int"),
    "items of a function": (ORDERED_DICT + b"S'call'\nNs.", "items of Function"),
    "appending to a function": (ORDERED_DICT + b"Na.", "appends to Function"),
    "appending to a stub": (PERSISTENT + b"(}tRNa.", "appends to Stub"),
    "an instance by the old instruction": (b"(ios\nsystem\n.", "INST"),
    "an object by the old instruction": (b"(cos\nsystem\nS'x'\no.", "os.system"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "a persistent id in a plain pickle": (b"\x80\x02Pos.system\n.", "outside"),
    "a dotted name": (b"ccollections\nOrderedDict.fromkeys\n.", "fromkeys"),
    "a name with a newline in a string": (stacked("os\nsystem", "x"), "refused"),
    "a number as a name": (b"\x80\x02K\x01K\x02\x93.", "not a name"),
    "named arguments": (b"\x80\x04" + ORDERED_DICT + b")}S'x'\nNs\x92.", "named arguments"),
    "a set with arguments that are no items": (b"cbuiltins\nset\n(K\x07tR.", "damaged"),
    "a bytearray by its length": (b"cbuiltins\nbytearray\n(I9999999999\ntR.", "expected bytes"),
    "an array of objects": (b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.", "expected numbers"),
    "a structured array": (b"cnumpy\ndtype\n(S'V16'\nI0\nI1\ntR.", "expected numbers"),
    "reconstructing through a string": (b"ccopy_reg\n_reconstructor\n(S'os.system'\nNNtR.", "else than a class"),
    "an encoding that is code": (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "latin1"),
}


@pytest.mark.parametrize("name", TWISTED)
def test_twisted_programs_are_refused(refusal: Callable[[bytes], str], name: str) -> None:
    assert re.search(TWISTED[name][1], refusal(TWISTED[name][0]))


def test_at_least_fifty_such_files_were_tried() -> None:
    assert 2 * len(FUNCTIONS) + 3 * 6 + len(TWISTED) > 150


def tensor_of(numel: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickled tensor that claims a shape over a storage of `numel` numbers."""
    storage = torch.UntypedStorage(4 * numel)
    typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
    return pickle.dumps(Calls(torch._utils._rebuild_tensor_v2, typed, 0, size, stride, False, None), protocol=2)


def claims_a_huge_storage() -> bytes:
    buffer = io.BytesIO()
    torch.save(torch.zeros(5), buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue().replace(b"K\x05N", b"\x8a\x05\x00\x00\x00\x00\x40N", 1)


HUGE = {
    "a tensor that repeats one number": (tensor_of(1, (1 << 20, 1 << 20), (0, 0)), "larger than its storage"),
    "a tensor beyond its storage": (tensor_of(4, (5,), (1,)), "larger than its storage"),
    "a tensor that strides beyond its storage": (tensor_of(4, (2,), (4,)), "larger than its storage"),
    "a negative stride": (tensor_of(4, (2,), (-1,)), "damaged"),
    "a storage larger than the file": (claims_a_huge_storage(), "larger than the file"),
    "bytes longer than the file": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.", "expected"),
    "text longer than the file": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.", "expected"),
    "a number longer than the file": (b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.", "not enough|expected"),
    "a number of too many digits": (b"\x80\x02L" + b"9" * 100_000 + b"L\n.", "digits"),
    "a memo with a huge index, got back empty": (b"\x80\x02Nr\xff\xff\xff\xffj\xfe\xff\xff\xff.", "damaged"),
}


def repeated(function: str, argument: bytes) -> bytes:
    """Calls a function with the same argument a thousand times, and keeps what it returns."""
    get = global_of(function) + b"h\x01\x85R"
    return b"\x80\x02(" + argument + b"q\x01" + get * 1000 + b"t."


TEXT = b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20)
HUGE |= {
    "a list of a text's letters": (repeated("builtins.list", TEXT), "many times the data"),
    "text that is encoded": (repeated("_codecs.encode", TEXT), "many times the data"),
    "bytes of a text": (repeated("builtins.bytearray", TEXT), "many times the data"),
}


@pytest.mark.parametrize("name", HUGE)
def test_sizes_that_a_file_only_claims_take_no_memory(refusal: Callable[[bytes], str], name: str) -> None:
    tracemalloc.start()
    try:
        message = refusal(HUGE[name][0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert re.search(HUGE[name][1], message)
    assert peak < 100_000_000


def test_a_billion_references_to_one_list_are_a_few_lists() -> None:
    laugh: Any = "ha"
    for _ in range(30):
        laugh = [laugh] * 10
    found = unpickle(io.BytesIO(pickle.dumps(laugh)), {})
    depth = 0
    while isinstance(found, list):
        assert found[0] is found[9]
        found, depth = found[0], depth + 1
    assert depth == 30


def test_a_nest_of_tuples_is_no_key() -> None:
    nest: Any = ()
    for _ in range(40):
        nest = (nest,) * 10
    with pytest.raises(ValueError, match="key is tuple"):
        unpickle(io.BytesIO(b"\x80\x04}" + pickle.dumps(nest, protocol=4)[2:-1] + b"Ns."), {})


def test_a_deep_nest_is_read_without_recursion() -> None:
    found = unpickle(io.BytesIO(b"]" * 50_000 + b"a" * 49_999 + b"."), {})
    for _ in range(49_999):
        (found,) = found
    assert found == []


def test_a_bomb_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x00" * 50_000_000)
    with pytest.raises(ValueError, match="compressed"):
        convert.load(path)


def test_the_table_has_only_functions_that_build_data() -> None:
    """What it has from elsewhere are types of numbers; all functions are those of this package."""
    for name, value in KNOWN.items():
        assert value is None or isinstance(value, torch.dtype | Function), name
        if isinstance(value, Function):
            assert not hasattr(builtins, getattr(value.call, "__name__", "")), name


def test_an_unknown_class_keeps_what_was_known_of_it() -> None:
    found = unpickle(io.BytesIO(pickle.dumps(__import__("argparse").Namespace(a=1))), KNOWN)
    assert isinstance(found, Stub)
    assert (found.name, found.state) == ("argparse.Namespace", {"a": 1})


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(protocol: int) -> None:
    data = {"a": [1, -2, 1 << 70, 0.5, None, True, "ä", b"\x00\xff"], 3: ({"b": ()}, (1,), (1, 2), (1, 2, 3), (1,) * 9)}
    assert unpickle(io.BytesIO(pickle.dumps(data, protocol=protocol)), KNOWN) == data


def test_reading_leaves_no_trace_in_the_table(tmp_path: Path) -> None:
    before = {name: vars(value).copy() for name, value in KNOWN.items() if isinstance(value, Function)}
    for index, (code, _) in enumerate(TWISTED.values()):
        path = tmp_path / f"{index}.pkl"
        path.write_bytes(code)
        with pytest.raises(ValueError):
            convert.load(path)
    assert before == {name: vars(value) for name, value in KNOWN.items() if isinstance(value, Function)}
