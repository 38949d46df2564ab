"""Files that look like those of PyTorch and are not: programs, bombs, lies and fragments.

Each name says what is wrong. The programs are live: unpickled, they would make a file.
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from hostile_programs import PROTO, doubled, nested_key, programs
from torch_writer import MAGIC, STOP, Weight, encode, in_one_row, name, pickled, text, zipped

Files = Iterator[tuple[str, bytes]]
ROW = np.arange(12, dtype=np.float32)
ROWS = {"0": ROW.tobytes()}


def hostile_files(target: str) -> Files:
    """(what is wrong, content) of each file; `target` is what the programs would make."""
    for label, program in programs(target):
        hidden = b"(" + program + b"1" + _state()  # made, dropped, and good weights after it
        yield f"{label}, zip", zipped(PROTO + hidden + STOP, ROWS)
        if label.endswith("REDUCE"):
            yield f"{label}, 2018", _old(program + b"0" + _state(old=True))
            yield f"{label}, alone", PROTO + program + STOP
    yield from _broken_pickles()
    yield from _lying_tensors()
    yield from _strange_zips()
    yield from _strange_old_files()
    yield from _fragments()


def _state(*, old: bool = False) -> bytes:
    return encode({"conv1a.0.weight": Weight("0", ROW)}, old=old)


def _old(program: bytes, count: int = ROW.size, row: bytes = ROWS["0"]) -> bytes:
    return in_one_row(PROTO + program + STOP, {"0": (count, row)})


def _broken_pickles() -> Files:
    digits = b"9" * 5000
    programs = {
        "EXT1": b"\x82\x01",
        "EXT2": b"\x83\x01\x00",
        "EXT4": b"\x84\x01\x00\x00\x00",
        "a persistent id as text": b"Pstorage\n",
        "an out-of-band buffer": b"\x97",
        "a read-only buffer": b"N\x98",
        "a bytearray": b"\x96" + struct.pack("<Q", 1) + b"x",
        "a set": b"\x8f",
        "a frozen set": b"(\x91",
        "text of 2^60 bytes": b"\x8d" + struct.pack("<Q", 2**60) + b"x",
        "bytes of 2^60 bytes": b"\x8e" + struct.pack("<Q", 2**60) + b"x",
        "text of 2^32 - 1 bytes": b"X" + struct.pack("<I", 2**32 - 1) + b"x",
        "a negative size": b"T" + struct.pack("<i", -1),
        "a long of 2^31 - 1 bytes": b"\x8b" + struct.pack("<i", 2**31 - 1),
        "a long of negative size": b"\x8b" + struct.pack("<i", -5),
        "a long of 4000 bytes": b"\x8b" + struct.pack("<i", 4000) + b"\x7f" * 4000,
        "a long of 5000 digits": b"L" + digits + b"L\n",
        "an integer of 5000 digits": b"I" + digits + b"\n",
        "a number that is none": b"Iabc\n",
        "text that is none": b"X" + struct.pack("<I", 1) + b"\xff",
        "an unknown instruction": b"\xff",
        "a frame beyond the end": b"\x95" + struct.pack("<Q", 2**40),
        "nothing": b"",
        "two values": b"NN",
        "a mark left": b"(N",
        "a stack underflow": b"0" * 5,
        "a tuple of too little": b"\x87",
        "an unknown number of the memo": b"h\x07",
        "a reduce of nothing": b"R",
        "a call of text": text("os.system") + encode(("x",)) + b"R",
        "a call without a tuple": name("collections", "OrderedDict") + b"NR",
        "a dictionary of a number": name("collections", "OrderedDict") + encode((1,)) + b"R",
        "a dictionary of triples": name("collections", "OrderedDict")
        + encode(([[1, 2, 3]],))
        + b"R",
        "items of a number": encode(5) + b"NNs",
        "an odd number of items": b"}(Nu",
        "appending to a dictionary": b"}Na",
        "state for a number": encode(5) + b"Nb",
        "state for a name": name("argparse", "Namespace") + b"Nb",
        "an object of a tensor's class": name("torch._utils", "_rebuild_tensor_v2") + b")\x81",
        "a name by numbers": encode(1) + encode(2) + b"\x93",
        "a name without a module": name("", "system") + b")R",
        "keys that hash for ages": nested_key(),
        "a list of doubled lists": doubled(b"]", b"a") + b"0N",
        "500,001 instructions": b"N0" * 250_001 + b"N",
        "200,001 marks": b"(" * 200_001,
        "200,001 values": b"(" + b"N" * 200_001 + b"t",
        "200,001 numbers in the memo": b"N" + b"\x94" * 200_001,
        "lists in lists, 150,000 deep": b"]" * 150_000 + b"a" * 149_999,
        "a list in itself": b"]q\x00h\x00a",
        "a dictionary in itself": b"}q\x00" + text("state_dict") + b"h\x00s",
        "no tensors": encode({"state_dict": {"a": 1}}),
        "tensors by numbers": encode({1: Weight("0", ROW)}),
        "a tensor alone": encode(Weight("0", ROW)),
        "a list of tensors": encode([Weight("0", ROW)]),
    }
    for label, program in programs.items():
        yield f"{label}, zip", zipped(PROTO + program + STOP, ROWS)
        yield f"{label}, 2018", _old(program)
    yield "no end, zip", zipped(PROTO + _state(), ROWS)
    yield "protocol 200, zip", zipped(b"\x80\xc8" + STOP, ROWS)


def _rebuilt(
    *,
    reference: bytes | None = None,
    offset: int = 0,
    shape: Any = (12,),
    strides: Any = (1,),
    function: str = "_rebuild_tensor_v2",
) -> bytes:
    parts = (reference or _reference()) + encode(offset) + encode(shape) + encode(strides)
    made = name("torch._utils", function) + b"(" + parts + b"\x89NtR"
    return b"}" + text("conv1a.0.weight") + made + b"s"


def _reference(
    *,
    kind: Any = "storage",
    tag: bytes | None = None,
    key: Any = "0",
    count: Any = 12,
    more: bytes = b"",
) -> bytes:
    tag = tag or name("torch", "FloatStorage")
    return b"(" + encode(kind) + tag + encode(key) + encode("cpu") + encode(count) + more + b"tQ"


def _lying_tensors() -> Files:
    programs = {
        "an offset beyond the storage": _rebuilt(offset=1),
        "a negative offset": _rebuilt(offset=-1),
        "a shape beyond the storage": _rebuilt(shape=(13,)),
        "a negative size": _rebuilt(shape=(-12,)),
        "a negative stride": _rebuilt(offset=11, strides=(-1,)),
        "a stride of 0": _rebuilt(shape=(10**9,), strides=(0,)),
        "strides of 0 in four dimensions": _rebuilt(shape=(10**4,) * 4, strides=(0,) * 4),
        "rows that share numbers": _rebuilt(shape=(6, 6), strides=(1, 1)),
        "rows that half share numbers": _rebuilt(shape=(4, 4), strides=(2, 1)),
        "strides for another shape": _rebuilt(shape=(3, 4), strides=(1,)),
        "nine dimensions": _rebuilt(shape=(1,) * 9, strides=(1,) * 9),
        "a shape of texts": _rebuilt(shape=("12",)),
        "a shape of booleans": _rebuilt(shape=(True,)),
        "a shape that is text": _rebuilt(shape="12"),
        "a shape that is a number": _rebuilt(shape=12),
        "a storage that is a number": _rebuilt(reference=encode(12)),
        "a storage that is a list": _rebuilt(reference=encode([1.0] * 12)),
        "a reference of another kind": _rebuilt(reference=_reference(kind="module")),
        "a storage of a class of the system": _rebuilt(
            reference=_reference(tag=name("os", "system"))
        ),
        "a storage of another class": _rebuilt(
            reference=_reference(tag=name("argparse", "Namespace"))
        ),
        "a storage of text": _rebuilt(reference=_reference(tag=text("FloatStorage"))),
        "a storage of a quantized type": _rebuilt(
            reference=_reference(tag=name("torch", "QInt8Storage"))
        ),
        "a storage of another type than its size": _rebuilt(
            reference=_reference(tag=name("torch", "DoubleStorage"))
        ),
        "a storage of no size": _rebuilt(reference=_reference(count=None)),
        "a storage of negative size": _rebuilt(reference=_reference(count=-12)),
        "a storage of 2^31 - 1 numbers": _rebuilt(reference=_reference(count=2**31 - 1)),
        "a storage that is not there": _rebuilt(reference=_reference(key="1")),
        "a storage outside of the file": _rebuilt(reference=_reference(key="../../etc/passwd")),
        "a storage by a number": _rebuilt(reference=_reference(key=0)),
        "a view beyond its storage": _rebuilt(reference=_reference(more=encode(("v", 1, 12)))),
        "a view of negative start": _rebuilt(reference=_reference(more=encode(("v", -1, 12)))),
        "a view smaller than its tensor": _rebuilt(reference=_reference(more=encode(("v", 0, 11)))),
        "a view that is a number": _rebuilt(reference=_reference(more=encode(1))),
        "a reference of four parts": _rebuilt(reference=b"(NNNNtQ"),
        "a reference that is text": _rebuilt(reference=text("storage") + b"Q"),
        "a function of PyTorch that is not needed": _rebuilt(function="_rebuild_qtensor"),
        "a tensor of too little": b"}"
        + text("a")
        + name("torch._utils", "_rebuild_tensor")
        + b")Rs",
        "a parameter of text": name("torch._utils", "_rebuild_parameter")
        + encode(("x", True))
        + b"R",
        "two tensors of the same numbers": encode({"a": Weight("0", ROW), "b": Weight("0", ROW)}),
        "one name with and without module.": encode(
            {"a": Weight("0", ROW[:6]), "module.a": Weight("1", ROW[:6])}
        ),
    }
    for label, program in programs.items():
        yield f"{label}, zip", zipped(PROTO + program + STOP, ROWS)
        yield f"{label}, 2018", _old(program)


def _strange_zips() -> Files:
    good = PROTO + _state() + STOP
    yield "a deflated bomb", _zip({"a/data.pkl": good, "a/data/0": b"\0" * 2**26}, deflated=True)
    for label, names in {
        "names that lead out": ["a/../../x"],
        "an absolute name": ["/etc/x"],
        "a name with backslashes": ["a\\..\\x"],
        "two folders": ["b/x"],
        "two pickles": ["b/data.pkl"],
        "a TorchScript program": ["a/constants.pkl"],
        "a name without a folder": ["x"],
    }.items():
        yield label, _zip({"a/data.pkl": good, "a/data/0": ROWS["0"], **dict.fromkeys(names, b"x")})
    yield "no pickle", _zip({"a/data/0": ROWS["0"]})
    yield "an archive of NumPy", _zip({"weight.npy": b"x"})
    yield "big-endian", _zip({"a/data.pkl": good, "a/data/0": ROWS["0"], "a/byteorder": b"big"})
    yield "a row too short", zipped(good, {"0": ROWS["0"][:-1]})
    yield "a row too long", zipped(good, {"0": ROWS["0"] * 2})
    yield "no row", zipped(good, {})
    yield "20,001 files", zipped(good, {**ROWS, **{f"x{n}": b"" for n in range(20_000)}})
    whole = zipped(good, ROWS)
    yield "a name twice", _twice(good)
    yield "encrypted", _changed(whole, b"PK\x01\x02", 8, b"\x01\x00")
    yield "a size that lies", _changed(whole, b"PK\x01\x02", 24, struct.pack("<I", 2**31))
    yield (
        "sizes that lie alike",
        _changed(whole, b"PK\x01\x02", 20, struct.pack("<II", *[2**31] * 2)),
    )
    yield "a place beyond the end", _changed(whole, b"PK\x01\x02", 42, struct.pack("<I", 2**31))
    yield "a wrong checksum", _changed(whole, b"PK\x01\x02", 16, b"\0\0\0\0")
    yield "an unknown compression", _changed(whole, b"PK\x01\x02", 10, b"\x63\x00")
    yield "files on one another", _overlapping(good)


def _zip(files: dict[str, bytes], *, deflated: bool = False) -> bytes:
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path)
            entry.filename = path  # as it is, whatever the system's separator
            archive.writestr(entry, content, method)
    return stream.getvalue()


def _twice(good: bytes) -> bytes:
    whole = zipped(good, {"0": ROWS["0"], "1": ROWS["0"]})
    return whole.replace(b"archive/data/1", b"archive/data/0")


def _changed(whole: bytes, record: bytes, offset: int, new: bytes) -> bytes:
    place = whole.index(record) + offset
    return whole[:place] + new + whole[place + len(new) :]


def _overlapping(good: bytes) -> bytes:
    """The second row's entry points to the first's."""
    whole = zipped(good, {"0": ROWS["0"], "1": ROWS["0"]})
    first, second = (whole.rindex(b"archive/data/" + key) - 46 for key in (b"0", b"1"))
    place = whole[first + 42 : first + 46]
    return whole[: second + 42] + place + whole[second + 46 :]


def _strange_old_files() -> Files:
    good = pickled({"conv1a.0.weight": Weight("0", ROW)}, old=True)
    whole = in_one_row(good, {"0": (12, ROWS["0"])})
    machine = b"little_endianq" if b"little_endianq" in whole else b"little_endian"
    yield "another number first", whole.replace(MAGIC, MAGIC[:-1] + b"\x7f", 1)
    yield "another version", whole.replace(encode(1001), encode(1002), 1)
    yield "big-endian, 2018", whole.replace(machine + b"\x88", machine + b"\x89", 1)
    yield "a row of another size", in_one_row(good, {"0": (11, ROWS["0"])})
    yield "a row of negative size", in_one_row(good, {"0": (-1, ROWS["0"])})
    yield "a row of 2^60 numbers", in_one_row(good, {"0": (2**60, ROWS["0"])})
    yield "a row too short, 2018", in_one_row(good, {"0": (12, ROWS["0"][:-4])})
    yield "a row that nothing uses", in_one_row(good, {"0": (12, ROWS["0"]), "1": (0, b"")})
    yield "no rows", in_one_row(good, {})
    yield "a row twice", whole.replace(pickled(["0"], old=True), pickled(["0", "0"], old=True))
    yield "rows that are no list", whole.replace(pickled(["0"], old=True), pickled("0", old=True))
    yield (
        "a program for the rows",
        whole.replace(
            pickled(["0"], old=True), PROTO + name("os", "system") + encode(("id",)) + b"R" + STOP
        ),
    )


def _fragments() -> Files:
    good = {"conv1a.0.weight": Weight("0", ROW)}
    whole = zipped(pickled(good), ROWS)
    old = in_one_row(pickled(good, old=True), {"0": (12, ROWS["0"])})
    for label, data in (("zip", whole), ("2018", old)):
        for part in range(1, 20):
            yield f"the first {part} twentieths, {label}", data[: len(data) * part // 20]
    yield "a pickle of something else", pickled({"a": [1, 2, 3]})
    yield "a pickle of protocol 4", b"\x80\x04\x95" + struct.pack("<Q", 2) + b"N."
    yield "only a magic number", PROTO + MAGIC + STOP
    yield "a zip's first bytes", b"PK\x03\x04"
