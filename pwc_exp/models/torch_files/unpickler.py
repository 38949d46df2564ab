"""A machine for the pickles that PyTorch writes, which calls nothing.

It knows the instructions that make numbers, strings and containers, and treats names as names: no
module is imported, no class looked up. The few functions of PyTorch that rebuild tensors are done
here by hand. Whatever else a pickle asks for is refused.
"""

import pickletools
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple

from pwc_exp.models.torch_files.tensors import DTYPES, Tensor, make_storage, make_tensor

MAX_INSTRUCTIONS = 500_000  # an optimizer's state of PWC-Net takes some 20,000
MAX_KEPT = 200_000  # objects on the stack, and in the memo
MAX_INTEGER = 2**64
MAX_SHOWN = 60  # characters of a name in a message


class Name(NamedTuple):
    """A class or function, by its name only."""

    module: str
    name: str


class Opaque:
    """An object that weights may stand beside, such as settings; its content is dropped."""


_ORDERED_DICT = Name("collections", "OrderedDict")
_TENSORS = {Name("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2")}
_PARAMETER = Name("torch._utils", "_rebuild_parameter")
_STORAGES = {Name(module, tag) for module in ("torch", "torch.cuda") for tag in DTYPES}
# What training programs keep beside weights: settings, and numbers of NumPy.
_BESIDE = {
    Name("argparse", "Namespace"),
    Name("pytorch_lightning.utilities.parsing", "AttributeDict"),
    Name("lightning.fabric.utilities.data", "AttributeDict"),
    Name("lightning_fabric.utilities.data", "AttributeDict"),
    Name("numpy", "dtype"),
    Name("numpy.core.multiarray", "scalar"),
    Name("numpy._core.multiarray", "scalar"),
    Name("torch", "Size"),
    Name("torch", "device"),
    *(Name("torch", kind) for kind in ("float16", "float32", "float64", "bfloat16", "int64")),
}
_KNOWN = {_ORDERED_DICT, _PARAMETER} | _TENSORS | _STORAGES | _BESIDE


def unpickle(stream: BytesIO) -> Any:
    """Reads one pickle and leaves `stream` after it.

    Returns:
        Numbers, strings, containers, `Tensor`s, and `Opaque` for what is not needed.

    Raises:
        ValueError: damaged, too large, or with an instruction or a name that weights do not need.
    """
    machine = _Machine()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MAX_INSTRUCTIONS:
                raise ValueError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            if code.name == "STOP":
                return machine.result()
            machine.do(code.name, argument)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None
    raise ValueError("its pickle has no end")


class _Machine:
    """A stack of values, the stacks below the last marks, and what was put aside by number."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1 or self._below:
            raise ValueError("its pickle is damaged (a stack that is not empty)")
        return self._stack[0]

    def do(self, code: str, argument: Any) -> None:
        """Follows one instruction."""
        if code in _LITERALS:
            self._push(_literal(argument))
        elif code in _CONSTANTS:
            self._push(_CONSTANTS[code]())
        elif code in _SIMPLE:
            _SIMPLE[code](self)
        elif code in _WITH_ARGUMENT:
            _WITH_ARGUMENT[code](self, argument)
        elif code not in ("PROTO", "FRAME"):
            raise ValueError(f"it has the instruction {code}, which weights do not need")

    def _push(self, value: Any) -> None:
        self._keep()
        self._stack.append(value)

    def _keep(self) -> None:
        if len(self._stack) + len(self._memo) + len(self._below) > MAX_KEPT:
            raise ValueError(f"it keeps more than {MAX_KEPT:,} objects")

    def mark(self) -> None:
        self._keep()
        self._below.append(self._stack)
        self._stack = []

    def _to_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._below.pop()
        return values

    def pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._to_mark()

    def pop_mark(self) -> None:
        self._to_mark()

    def duplicate(self) -> None:
        self._push(self._stack[-1])

    def put(self, number: int) -> None:
        self._keep()
        self._memo[number] = self._stack[-1]

    def memoize(self) -> None:
        self.put(len(self._memo))

    def get(self, number: int) -> None:
        self._push(self._memo[number])

    def tuple_to_mark(self) -> None:
        self._push(tuple(self._to_mark()))

    def list_to_mark(self) -> None:
        self._push(self._to_mark())

    def dict_to_mark(self) -> None:
        values = self._to_mark()
        self._push({})
        self._set_items(values)

    def short_tuple(self, size: int) -> None:
        values = [self._stack.pop() for _ in range(size)]
        self._push(tuple(reversed(values)))

    def append(self) -> None:
        value = self._stack.pop()
        self._append([value])

    def appends(self) -> None:
        self._append(self._to_mark())

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            return
        if not isinstance(target, list):
            raise ValueError("its pickle is damaged (appends to what is no list)")
        target.extend(values)

    def set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set_items([key, value])

    def set_items(self) -> None:
        self._set_items(self._to_mark())

    def _set_items(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            return
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("its pickle is damaged (items of what is no dictionary)")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_checked_key(key)] = value

    def name(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self._push_name(module, name)

    def name_on_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._push_name(module, name)

    def _push_name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it names something by what is no text")
        if Name(module, name) not in _KNOWN:
            shown = f"{module}.{name}"[:MAX_SHOWN]
            raise ValueError(f"it names {shown!r}, which weights do not need")
        self._push(Name(module, name))

    def reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function")
        self._push(_rebuild(function, arguments))

    def new_object(self) -> None:
        self._stack.pop()
        if self._stack.pop() not in _BESIDE:
            raise ValueError("it makes an object that weights do not need")
        self._push(Opaque())

    def build(self) -> None:
        """Drops the attributes of an object: those of a state_dict are versions of layers."""
        self._stack.pop()
        if not isinstance(self._stack[-1], dict | Opaque):
            raise ValueError("it sets attributes of what has none")

    def persistent(self) -> None:
        described = self._stack.pop()
        if not isinstance(described, tuple) or not 5 <= len(described) <= 6:
            raise ValueError("it refers to what is no storage")
        kind, tag, key, _, count, *view = described
        if kind != "storage" or tag not in _STORAGES:
            raise ValueError("it refers to what is no storage")
        self._push(make_storage(tag.name, key, count, view[0] if view else None))


def _rebuild(function: Name, arguments: tuple[Any, ...]) -> Any:
    if function in _TENSORS and len(arguments) >= 4:
        return make_tensor(*arguments[:4])
    if function == _PARAMETER and arguments and isinstance(arguments[0], Tensor):
        return arguments[0]
    if function == _ORDERED_DICT and len(arguments) <= 1:
        pairs = arguments[0] if arguments else []  # Python 2 gives a list of lists
        if isinstance(pairs, list) and all(isinstance(p, list | tuple) for p in pairs):
            return {_checked_key(key): value for key, value in pairs}
    if function in _BESIDE:
        return Opaque()
    raise ValueError(f"it calls {function.name} with arguments that weights do not need")


def _checked_key(key: Any) -> Any:
    # A tuple of tuples that share their parts takes ages to hash.
    if not isinstance(key, str | int | float | None):
        raise ValueError("it has a dictionary with keys that are no text or number")
    return key


def _literal(value: Any) -> Any:
    if isinstance(value, int) and abs(value) > MAX_INTEGER**2:
        raise ValueError("it has a number that is too large")
    return value


# Of protocols 2 to 4. The instructions of older ones, as text, are not among them.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_SIMPLE: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.tuple_to_mark,
    "TUPLE1": lambda machine: machine.short_tuple(1),
    "TUPLE2": lambda machine: machine.short_tuple(2),
    "TUPLE3": lambda machine: machine.short_tuple(3),
    "LIST": _Machine.list_to_mark,
    "DICT": _Machine.dict_to_mark,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
_WITH_ARGUMENT: dict[str, Callable[[_Machine, Any], None]] = {
    "GLOBAL": _Machine.name,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
}
