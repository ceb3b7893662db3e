"""Reads pickles as the data they describe: nothing is imported, nothing is called but a closed table of our functions.

A pickle is a program for a small stack machine, some of whose instructions import and call what the file names. Here
the machine is our own. A name in the file is only ever looked up in the table; what is not in it is refused by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import IO, Any

MAX_COPIED = 4, 1 << 22  # bytes and items given to functions, which may copy them: so often the file's, and some more
MAX_INSTRUCTIONS = 5_000_000  # far more than a network of thousands of tensors needs

REFUSED = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUSH_ARGUMENT = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
SIZED = (str, bytes, bytearray, list, tuple, dict)
PLAIN = (str, int, float, bytes, type(None))


class Function:
    """A function of ours that a file may call by its name in the table."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Stub:
    """What an object of a class that is not here was: its class's name, its arguments, and its state."""

    def __init__(self, name: str, *args: Any) -> None:
        self.name, self.args = name, args
        self.state: Any = None

    def fill(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"<{self.name}>"


def stub(name: str) -> Function:
    """What the table says of a class or function whose objects are kept as a `Stub`."""
    return Function(lambda *args: Stub(name, *args))


def is_key(value: Any) -> bool:
    """Whether it may be a dictionary's key; a nest of tuples may not, for to hash it can take for ever."""
    return all(isinstance(part, PLAIN) for part in (value if isinstance(value, tuple) else (value,)))


def as_dict(items: Any = ()) -> dict[Any, Any]:
    """A dictionary, also for its subclasses and for a list of pairs."""
    if isinstance(items, dict):
        return items
    pairs = [tuple(pair) for pair in items]
    if any(len(pair) != 2 or not is_key(pair[0]) for pair in pairs):
        raise ValueError("a dictionary is made of something else than pairs of a plain key and a value")
    return dict(pairs)


def reconstructed(kind: Any, base: Any, state: Any) -> Any:
    """An object of the protocols before 2: an instance of `kind` whose `base` has the content `state`."""
    if not isinstance(kind, Function):
        raise ValueError("copyreg._reconstructor is given something else than a class")
    return kind.call(state) if isinstance(state, dict | list | tuple) else kind.call()


def as_bytes(data: Any = b"", encoding: Any = "latin1") -> bytes:
    if isinstance(data, str):
        return text_as_bytes(data, encoding)
    if not isinstance(data, bytes | bytearray):  # of a number, bytearray makes as many zeros
        raise ValueError(f"expected bytes, got {type(data).__name__}")
    return bytes(data)


def text_as_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("_codecs.encode is given something else than text and latin1")
    return text.encode("latin1")


CONTAINERS: dict[str, Any] = {
    "builtins.object": Function(lambda: None),
    "builtins.dict": Function(as_dict),
    "builtins.list": Function(lambda items=(): list(items)),
    "builtins.set": Function(lambda items=(): list(items)),
    "builtins.frozenset": Function(lambda items=(): list(items)),
    "builtins.bytes": Function(as_bytes),
    "builtins.bytearray": Function(as_bytes),
    "collections.OrderedDict": Function(as_dict),
    "copyreg._reconstructor": Function(reconstructed),
    "_codecs.encode": Function(text_as_bytes),
}
MODULES_OF_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def unpickle(file: IO[bytes], known: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads one pickle.

    Args:
        file: Where it begins; afterwards the position is behind it. Reads must return no more than there is.
        known: What names stand for: a `Function` may be called, anything else is a value.
        persistent: From a persistent id, which refers to something outside the pickle, to its value; None refuses it.

    Returns:
        Nested dictionaries, lists (also for sets), tuples, numbers, strings, and what the functions returned.

    Raises:
        ValueError: The pickle is damaged, too long, or refers to anything that is not known; it is named.
    """
    try:
        return _Machine(file, known, persistent).run()
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ValueError(f"the pickle is damaged ({type(error).__name__}: {str(error)[:100]})") from error


class _Machine:
    def __init__(self, file: IO[bytes], known: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> None:
        self.file, self.known, self.persistent = file, known, persistent
        self.start, self.copied = file.tell(), 0
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []  # the stacks below each mark
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(self.file)):
            if count >= MAX_INSTRUCTIONS:
                raise ValueError(f"the pickle has more than {MAX_INSTRUCTIONS} instructions")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in PUSH_ARGUMENT:
                self.stack.append(argument)
            elif name in REFUSED:
                raise ValueError(f"the pickle has the instruction {name}, which no checkpoint needs")
            else:
                self.step(name, argument)
        raise ValueError("the pickle ends too early")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(self.top(TUPLES[name]))]
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        else:
            getattr(self, f"do_{name.lower()}")(argument)

    def top(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        return self.stack[-count:]

    def since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marked.pop()
        return items

    def do_proto(self, version: int) -> None:
        if version > 5:
            raise ValueError(f"the pickle has protocol {version}, expected at most 5")

    def do_frame(self, size: int) -> None:
        """Frames say how much to read at once, which is of no use here."""

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_mark(self, _: None) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def do_pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def do_pop_mark(self, _: None) -> None:
        self.since_mark()

    def do_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def do_tuple(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def do_list(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append(items)

    do_frozenset = do_list

    def do_dict(self, _: None) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def do_append(self, _: None) -> None:
        self.extend([self.stack.pop()])

    def do_appends(self, _: None) -> None:
        self.extend(self.since_mark())

    do_additems = do_appends

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(f"the pickle appends to {type(self.stack[-1]).__name__}, expected a list")
        self.stack[-1].extend(items)

    def do_setitem(self, _: None) -> None:
        items = self.top(2)
        del self.stack[-2:]
        self.set_items(items)

    def do_setitems(self, _: None) -> None:
        self.set_items(self.since_mark())

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict:
            raise ValueError(f"the pickle sets items of {type(target).__name__}, expected a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not is_key(key):
                raise ValueError(f"a dictionary's key is {type(key).__name__}, expected a string or a number")
            target[key] = value

    def do_global(self, argument: str) -> None:
        self.push_known(*argument.split(" ", 1))

    def do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("the pickle refers to something by what is not a name")
        self.push_known(module, name)

    def push_known(self, module: str, name: str) -> None:
        full = f"{MODULES_OF_PYTHON_2.get(module, module)}.{name}"
        if full not in self.known:
            raise ValueError(f"the pickle refers to {full[:200]!r}, which is refused: no known checkpoint needs it")
        self.stack.append(self.known[full])

    def do_reduce(self, _: None) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Function) or not isinstance(args, tuple):
            raise ValueError(f"the pickle calls {type(function).__name__}, which is no function")
        self.charge(args)
        self.stack.append(function.call(*args))

    do_newobj = do_reduce

    def do_newobj_ex(self, _: None) -> None:
        if self.stack.pop() != {}:
            raise ValueError("the pickle makes an object with named arguments, which no checkpoint needs")
        self.do_reduce(None)

    def do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is dict:  # such as the _metadata of a state dict
            return
        if isinstance(target, Function) or not hasattr(target, "fill"):
            raise ValueError(f"the pickle sets the state of {type(target).__name__}, which has none")
        self.charge(state if isinstance(state, tuple) else ())
        target.fill(state)

    def charge(self, args: tuple[Any, ...]) -> None:
        """Refuses to give the same large thing to functions again and again, each time to be copied."""
        self.copied += sum(len(value) for value in args if isinstance(value, SIZED))
        factor, more = MAX_COPIED
        if self.copied > factor * (self.file.tell() - self.start) + more:
            raise ValueError("the pickle makes many times the data that it has")

    def do_persid(self, identity: Any) -> None:
        if self.persistent is None:
            raise ValueError("the pickle refers to data outside of it")
        self.stack.append(self.persistent(identity))

    def do_binpersid(self, _: None) -> None:
        self.do_persid(self.stack.pop())
