"""Writes what PyTorch writes, without PyTorch: its pickles, its zip, and its files of 2018."""

import io
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

STOP = b"."
MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_TAGS = {"f2": "HalfStorage", "f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


class Weight(NamedTuple):
    """A tensor that lies alone in a storage."""

    key: str
    value: np.ndarray


def weights(arrays: Mapping[str, np.ndarray]) -> "OrderedDict[str, Weight]":
    """A state_dict."""
    named = ((name, Weight(str(n), value)) for n, (name, value) in enumerate(arrays.items()))
    return OrderedDict(named)


def pickled(value: Any, *, old: bool = False) -> bytes:
    """A pickle of protocol 2; old: as Python 2 and PyTorch 0.3 write it."""
    return b"\x80\x02" + encode(value, old=old) + STOP


def encode(value: Any, *, old: bool = False) -> bytes:
    """The instructions that make `value`."""
    if isinstance(value, Weight):
        return tensor(value, old=old)
    if isinstance(value, dict):
        return _encode_dict(value, old)
    if isinstance(value, list | tuple):
        items = b"".join(encode(item, old=old) for item in value)
        return b"](" + items + b"e" if isinstance(value, list) else b"(" + items + b"t"
    if isinstance(value, str):
        return text(value, old=old)
    if isinstance(value, bool) or value is None:
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    code, layout = ("J", "<i") if isinstance(value, int) else ("G", ">d")
    return code.encode() + struct.pack(layout, value)


def _encode_dict(value: dict[Any, Any], old: bool) -> bytes:
    ordered = isinstance(value, OrderedDict)
    if old and ordered:
        pairs = b"".join(encode([key, item], old=old) for key, item in value.items())
        return name("collections", "OrderedDict") + b"](" + pairs + b"e\x85R"
    items = b"".join(encode(part, old=old) for item in value.items() for part in item)
    made = name("collections", "OrderedDict") + b")R" if ordered else b"}"
    return made + b"(" + items + b"u"


def text(value: str, *, old: bool = False) -> bytes:
    """A string; of Python 2, bytes."""
    data = value.encode()
    return b"U" + bytes([len(data)]) + data if old else b"X" + struct.pack("<I", len(data)) + data


def name(module: str, attribute: str) -> bytes:
    """What a pickle calls a class or function by."""
    return b"c" + module.encode() + b"\n" + attribute.encode() + b"\n"


def storage(weight: Weight, *, old: bool = False) -> bytes:
    """A reference to a row of numbers."""
    module, tag = "torch.cuda" if old else "torch", _TAGS[weight.value.dtype.str[1:]]
    place = encode("cuda:0" if old else "cpu", old=old)
    size = encode(weight.value.size, old=old)
    view = b"N" if old else b""
    described = text("storage", old=old) + name(module, tag) + text(weight.key, old=old)
    return b"(" + described + place + size + view + b"tQ"


def tensor(weight: Weight, *, old: bool = False) -> bytes:
    """A tensor of all numbers of its storage."""
    shape = weight.value.shape
    strides = [s // weight.value.itemsize for s in weight.value.strides]
    parts = storage(weight, old=old) + encode(0) + encode(tuple(shape)) + encode(tuple(strides))
    if old:
        return name("torch._utils", "_rebuild_tensor") + b"(" + parts + b"tR"
    hooks = encode(OrderedDict())
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + parts + b"\x89" + hooks + b"tR"


def zipped(
    pickle: bytes, rows: Mapping[str, bytes], *, root: str = "archive", **more: bytes
) -> bytes:
    """A file as of PyTorch 1.6 and later; more: further files in its folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        archive.writestr(f"{root}/byteorder", "little")
        for key, row in rows.items():
            archive.writestr(f"{root}/data/{key}", row)
        archive.writestr(f"{root}/version", "3\n")
        for key, content in more.items():
            archive.writestr(f"{root}/{key}", content)
    return stream.getvalue()


def in_one_row(pickle: bytes, rows: Mapping[str, tuple[int, bytes]]) -> bytes:
    """A file as of 2018. rows: {key: (numbers, their bytes)}."""
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    head = b"\x80\x02" + MAGIC + STOP + pickled(1001, old=True) + pickled(machine, old=True)
    storages = b"".join(struct.pack("<q", count) + row for count, row in rows.values())
    return head + pickle + pickled(list(rows), old=True) + storages


def save_zip(path: Path, arrays: Mapping[str, np.ndarray], **around: Any) -> Path:
    """Saves a state_dict; around: what else the dictionary holds that it then lies in."""
    state = weights(arrays)
    rows = {weight.key: weight.value.tobytes() for weight in state.values()}
    content = {"state_dict": state, **around} if around else state
    path.write_bytes(zipped(pickled(content), rows))
    return path


def save_2018(path: Path, arrays: Mapping[str, np.ndarray], **around: Any) -> Path:
    """Likewise as Python 2 and PyTorch 0.3 did, from a GPU."""
    state = weights(arrays)
    rows = {weight.key: (weight.value.size, weight.value.tobytes()) for weight in state.values()}
    content = {"state_dict": state, **around} if around else state
    path.write_bytes(in_one_row(pickled(content, old=True), rows))
    return path
