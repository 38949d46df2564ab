"""PWC-Net weights from PyTorch files of NVlabs, ptlflow and mmflow, without PyTorch.

A PyTorch file is a pickle beside raw storages, and a pickle is a program. `read_state_dict` runs it
on Python's own pickle machine with a closed set of instructions and names: the only callables it
can reach are the stand-ins of this module, and anything else in the file ends the reading.

`convert` then renames the tensors and rearranges them. That is exact, except for rounding where
mmflow's cost volume is concerned:
- kernels are transposed to [H, W, in, out]; those of transposed convolutions to [H, W, out, in],
  not flipped, as TensorFlow's "same" of kernel 4 and stride 2 pads as PyTorch's padding=1;
- the first kernel's input channels are reversed where the project feeds BGR;
- the two convolutions at level 6: NVlabs calls the first one conv6aa and the second one conv6a;
- mmflow sums over channels in the cost volume where the others take the mean: the kernels that
  read it are multiplied by the number of channels, which LeakyReLU lets through;
- NVlabs' PWCDCNet_old puts some activations behind the inputs they are computed from: the input
  channels of the kernels that read them are brought into the order of the later network.
"""

import pickle
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

from pwc_exp.errors import DataError, MissingInputError

NVLABS = "NVlabs/PWC-Net"
PTLFLOW = "hmorimitsu/ptlflow"
MMFLOW = "open-mmlab/mmflow"
CONVENTIONS = {
    "warp_border": "zero",
    "stride_padding": "symmetric",
    "upsample_alignment": "center",
    "level_units": "scaled",
    "center_frames": False,
    "normalize_features": False,
}  # of `PWCNet`, without which these weights mean nothing

MAX_BYTES = 2**31  # of a file; PWC-Net with the state of its optimizer has about 120 MB
MAX_PICKLE = 2**26  # bytes
MAX_ENTRIES = 20_000  # of a zip
MAX_DEPTH = 3  # of a state_dict within dictionaries
STATE_KEYS = ("state_dict", "model_state_dict", "model")  # under which training programs save it
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_NUMBER = 0x1950A86A20F9469CFC6C  # of files before PyTorch 1.6, such as pwc_net.pth.tar
_LEGACY_HEAD = b"\x80\x02\x8a\x0a" + _LEGACY_NUMBER.to_bytes(10, "little")
_STORAGE_DTYPES = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype(bool),
    "ByteStorage": np.dtype("u1"),
    "CharStorage": np.dtype("i1"),
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
    "ShortStorage": np.dtype("<i2"),
}


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as PyTorch's do, or may be another pickle."""
    with path.open("rb") as file:
        return file.read(len(_LEGACY_HEAD)).startswith((_ZIP_MAGIC, b"\x80"))


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a model by name, as read-only arrays.

    Raises:
        MissingInputError: no such file.
        DataError: damaged, without weights, or a program; nothing in it was run.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        data = path.read_bytes()
        if data.startswith(_ZIP_MAGIC):
            return _to_arrays(*_read_zip(data))
        if data.startswith(_LEGACY_HEAD):
            return _to_arrays(*_read_legacy(data))
        raise ValueError("it is a pickle, but not a PyTorch file")
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, OverflowError, struct.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} is refused, and nothing in it was run: {reason}") from None


class _Storage(NamedTuple):
    """A one-dimensional array in the file, or the part of it that a view covers."""

    key: str
    dtype: np.dtype
    size: int  # of the whole array
    start: int
    stop: int


class _Tensor(NamedTuple):
    """Elements of a storage, in a shape; offset and strides count elements."""

    storage: _Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def stop(self) -> int:
        """One more than the last element of the storage that is read."""
        if 0 in self.shape:
            return self.first
        steps = zip(self.shape, self.strides, strict=True)
        return self.first + 1 + sum((size - 1) * stride for size, stride in steps)


def _make_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Replaces `torch._utils._rebuild_tensor`; refuses what reads too far, or an element twice."""
    if not isinstance(storage, _Storage) or not _are_counts([offset]):
        raise ValueError("a tensor must be part of a storage")
    if not _are_counts(shape) or not _are_counts(strides) or len(shape) != len(strides):
        raise ValueError("a tensor must have a shape and strides, none of them negative")
    tensor = _Tensor(storage, storage.start + offset, tuple(shape), tuple(strides))
    if tensor.stop > storage.stop:
        raise ValueError("a tensor reaches beyond its storage")
    reach = 0  # from the first to the last element, over the dimensions so far
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride <= reach:
            raise ValueError("a tensor reads an element twice")
        reach += max(size - 1, 0) * stride
    return tensor


def _make_parameter(data: Any, *_: Any) -> _Tensor:
    """Replaces `torch._utils._rebuild_parameter`."""
    if not isinstance(data, _Tensor):
        raise ValueError("a parameter must hold a tensor")
    return data


def _are_counts(values: Any) -> TypeGuard[Sequence[int]]:
    counts = isinstance(values, list | tuple) and len(values) <= 8
    return counts and all(type(value) is int and 0 <= value < 2**48 for value in values)


class _Dict(dict):
    """Replaces `dict` and `OrderedDict`; a nested tuple as a key could take ages to hash."""

    __slots__ = ()

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__()
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int | float | None):
            raise ValueError("it has a dictionary with keys that are neither text nor numbers")
        super().__setitem__(key, value)


class _Ignored:
    """Replaces objects beside the weights, such as settings, and drops what they hold."""

    __slots__ = ()

    def __new__(cls, *_: Any) -> "_Ignored":
        return super().__new__(cls)

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Drops an item."""


_STAND_INS: dict[str, Any] = {
    "collections.OrderedDict": _Dict,
    "torch._utils._rebuild_tensor": _make_tensor,
    "torch._utils._rebuild_tensor_v2": _make_tensor,
    "torch._utils._rebuild_parameter": _make_parameter,
    **{f"torch.{tag}": dtype for tag, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{tag}": dtype for tag, dtype in _STORAGE_DTYPES.items()},
    **dict.fromkeys(
        (
            *("argparse.Namespace", "pytorch_lightning.utilities.parsing.AttributeDict"),
            *(f"lightning{dot}fabric.utilities.data.AttributeDict" for dot in "._"),
            *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
            *("torch.Size", "torch.device", "torch.float16", "torch.float32", "torch.float64"),
            *("torch.bfloat16", "torch.int64"),
        ),
        _Ignored,
    ),
}
_INSTRUCTIONS = (
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE"),
    *("NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "SETITEM"),
    *("SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL"),
    *("STACK_GLOBAL", "REDUCE", "NEWOBJ", "BUILD", "BINPERSID"),
)  # of protocols 2 to 4


class _Instructions(dict):
    def __missing__(self, code: int) -> Any:
        raise ValueError(f"it has the instruction {bytes([code])!r}, which weights do not need")


class _Unpickler(pickle._Unpickler):
    """Python's pickle machine, with what weights need of protocols 2 to 4.

    The machine written in Python, because the one in C has neither a table of instructions to
    close nor a bound on its memo, for which four bytes of a file can ask 64 GB.
    """

    dispatch: ClassVar[dict[int, Any]] = _Instructions(
        (code, pickle._Unpickler.dispatch[code])
        for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS)
    )
    stack: list[Any]

    def __init__(self, stream: BytesIO) -> None:
        super().__init__(stream, encoding="latin-1")
        self.storages: dict[str, _Storage] = {}  # those that it referred to

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; no module is imported."""
        full_name = f"{module}.{name}"
        if full_name not in _STAND_INS:
            raise ValueError(f"it names {full_name[:60]!r}, which weights do not need")
        return _STAND_INS[full_name]

    def persistent_load(self, described: Any) -> _Storage:
        """A reference to a storage: ("storage", type, key, device, size[, view])."""
        if not isinstance(described, tuple) or not 5 <= len(described) <= 6:
            raise ValueError("it refers to something other than a storage")
        kind, dtype, key, _, size, *views = described
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise ValueError("it refers to something other than a storage")
        if not isinstance(key, str) or not _are_counts([size]):
            raise ValueError("a storage must have a key and a size")
        start, length = 0, size
        if views and views[0] is not None:  # (key of the view, start, length)
            (view,) = views
            if not isinstance(view, tuple) or len(view) != 3 or not _are_counts(view[1:]):
                raise ValueError("a view of a storage must have a start and a size")
            start, length = view[1:]
        if start + length > size:
            raise ValueError("a view reaches beyond its storage")
        self.storages[key] = _Storage(key, dtype, size, start, start + length)
        return self.storages[key]

    def load_empty_dict(self) -> None:
        self.stack.append(_Dict())

    def load_build(self) -> None:
        """Drops the attributes of an object: those of a state_dict are versions of layers."""
        self.stack.pop()
        if not isinstance(self.stack[-1], _Dict | _Ignored):
            raise ValueError("it sets attributes of an object that has none")

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dict
    dispatch[pickle.BUILD[0]] = load_build


def _unpickle(stream: BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """Reads one pickle, and leaves `stream` after it; also the storages that it refers to."""
    unpickler = _Unpickler(stream)
    try:
        return unpickler.load(), unpickler.storages
    except (
        *(IndexError, KeyError, TypeError, AttributeError, OverflowError, EOFError, struct.error),
        pickle.UnpicklingError,
    ) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None


def _read_zip(data: bytes) -> tuple[Any, dict[str, memoryview]]:
    """The format since PyTorch 1.6: a pickle and its storages, by their keys."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = archive.namelist()
            root = names[0].partition("/")[0] if names else ""
            _check_entries(archive.infolist(), root, len(data))
            if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
                raise ValueError("its byte order is not little")
            if archive.getinfo(f"{root}/data.pkl").file_size > MAX_PICKLE:
                raise ValueError(f"its pickle has more than {MAX_PICKLE:,} bytes")
            value, _ = _unpickle(BytesIO(archive.read(f"{root}/data.pkl")))
            prefix = f"{root}/data/"
            storages = [name for name in names if name.startswith(prefix)]
            return value, {name[len(prefix) :]: memoryview(archive.read(name)) for name in storages}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"its zip is damaged ({' '.join(str(error).split())})") from None


def _check_entries(entries: Sequence[zipfile.ZipInfo], root: str, size: int) -> None:
    """Refuses a zip that PyTorch does not write, a compressed one above all."""
    names = [entry.filename for entry in entries]
    ordered = sorted((entry.header_offset, entry.file_size) for entry in entries)
    problems = {
        f"has more than {MAX_ENTRIES:,} files": len(entries) > MAX_ENTRIES,
        "is compressed or encrypted, which PyTorch's files are not": any(
            entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1 for entry in entries
        ),
        "states sizes that differ": any(e.file_size != e.compress_size for e in entries),
        "states more bytes than it has": sum(entry.file_size for entry in entries) > size,
        "has files that overlap": any(b[0] < sum(a) for a, b in pairwise(ordered)),
        "has a name twice": len(set(names)) != len(names),
        "has names that lead out of it": any(
            {"", ".."} & set(name.split("/")) or "\\" in name for name in names
        ),
        "is not a PyTorch file (one folder with data.pkl)": f"{root}/data.pkl" not in names
        or not all(name.startswith(f"{root}/") for name in names),
        "is a TorchScript program; save the state_dict of the model instead": (
            f"{root}/constants.pkl" in names
        ),
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(f"its zip {problem}")


def _read_legacy(data: bytes) -> tuple[Any, dict[str, memoryview]]:
    """The format before: five pickles, then each storage behind its size.

    The pickles are a number, a version, the machine, the object and the keys of the storages.
    """
    stream = BytesIO(data)
    number, version, machine = (_unpickle(stream)[0] for _ in range(3))
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if number != _LEGACY_NUMBER or version != 1001 or not little:
        raise ValueError("its head is not that of a PyTorch file")
    value, used = _unpickle(stream)
    keys, _ = _unpickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    found: dict[str, memoryview] = {}
    start = stream.tell()
    for key in keys:
        if key in found or key not in used:
            raise ValueError("its list of storages has a key twice, or one that is not used")
        (count,) = struct.unpack_from("<q", data, start)
        end = start + 8 + used[key].size * used[key].dtype.itemsize
        if count != used[key].size or end > len(data):
            raise ValueError(f"its storage {key[:20]!r} is truncated or of another size")
        found[key] = memoryview(data)[start + 8 : end]
        start = end
    return value, found


def _to_arrays(value: Any, storages: Mapping[str, memoryview]) -> dict[str, np.ndarray]:
    tensors = _find_tensors(value, MAX_DEPTH)
    if tensors is None:
        keys = ", ".join(STATE_KEYS)
        raise ValueError(f"it holds no tensors by name, at the top or under {keys}")
    plain = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if len(plain) != len(tensors):  # `module.` is what DataParallel puts before each name
        raise ValueError("it holds a tensor with and without the prefix 'module.'")
    ordered = sorted(plain.values(), key=lambda tensor: (tensor.storage.key, tensor.first))
    for one, next_one in pairwise(ordered):
        if one.storage.key == next_one.storage.key and next_one.first < one.stop:
            raise ValueError(f"tensors share elements of storage {one.storage.key[:20]!r}")
    return {name: _to_array(tensor, storages) for name, tensor in plain.items()}


def _find_tensors(value: Any, depth: int) -> dict[str, _Tensor] | None:
    if not isinstance(value, dict) or depth == 0:
        return None
    tensors = {name: item for name, item in value.items() if isinstance(item, _Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        return tensors
    inner = (_find_tensors(value[key], depth - 1) for key in STATE_KEYS if key in value)
    return next((found for found in inner if found is not None), None)


def _to_array(tensor: _Tensor, storages: Mapping[str, memoryview]) -> np.ndarray:
    storage = tensor.storage
    row = storages.get(storage.key)
    if row is None or len(row) != storage.size * storage.dtype.itemsize:
        raise ValueError(f"storage {storage.key[:20]!r} is missing or of another size")
    elements = np.frombuffer(row, storage.dtype)[tensor.first :]
    strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(elements, tensor.shape, strides, writeable=False)


_LEVELS = range(2, 7)  # that estimate a flow
_PARTS = ("a", "aa", "b")
_FIRST = "pyramid/conv1a/kernel"
_UNUSED = "deconv2."  # NVlabs' network has it, and never uses it
# {layer of the file: our layer}
_NVLABS = {
    **{f"conv{k}{part}.0": f"pyramid/conv{k}{part}" for k in range(1, 7) for part in _PARTS},
    **{f"conv{k}_{i}.0": f"estimator{k}/conv{i}" for k in _LEVELS for i in range(5)},
    **{f"predict_flow{k}": f"estimator{k}/flow" for k in _LEVELS},
    **{f"deconv{k}": f"up_flow{k}" for k in _LEVELS},
    **{f"upfeat{k}": f"up_features{k}" for k in _LEVELS},
    **{f"dc_conv{i}.0": f"context2/conv{i}" for i in range(1, 7)},
    "dc_conv7": "context2/conv7",
}
_SWAPPED = {"conv6aa.0": "pyramid/conv6a", "conv6a.0": "pyramid/conv6aa"}
_DECODER = "decoder.decoders.level"
_MMFLOW = {
    **{
        f"encoder.layers.{k - 1}.layers.{i}.conv": f"pyramid/conv{k}{part}"
        for k in range(1, 7)
        for i, part in enumerate(_PARTS)
    },
    **{
        f"{_DECODER}{k}.dense_net.layers.{i}.layers.conv": f"estimator{k}/conv{i}"
        for k in _LEVELS
        for i in range(5)
    },
    **{f"{_DECODER}{k}.predict_layer": f"estimator{k}/flow" for k in _LEVELS},
    **{f"{_DECODER}{k}.upflow_layer": f"up_flow{k}" for k in _LEVELS},
    **{f"{_DECODER}{k}.upfeat_layer": f"up_features{k}" for k in _LEVELS},
    **{f"decoder.post_processor.layers.{i}.conv": f"context2/conv{i + 1}" for i in range(6)},
    "decoder.post_processor.layers.6": "context2/conv7",
}
_LAYOUTS = (
    "NVlabs/PWC-Net and ptlflow (conv1a.0.weight, …, predict_flow2.bias), "
    "mmflow (encoder.layers.0.layers.0.conv.weight, …)"
)


class Converted(NamedTuple):
    """Weights by the names of this project."""

    weights: dict[str, np.ndarray]
    project: str  # whose layout it is
    fits: str  # the model that they are for


def convert(tensors: Mapping[str, np.ndarray], *, source: str) -> Converted:
    """From a state_dict to {weight name: value}.

    Raises:
        DataError: none of the known layouts, a name that such a network has not, or no numbers.
    """
    try:
        if {"conv1a.0.weight", "conv6_0.0.weight"} <= tensors.keys():
            return _convert_nvlabs(tensors, source)
        if f"{_DECODER}6.dense_net.layers.0.layers.conv.weight" in tensors:
            weights = _renamed(tensors, _MMFLOW, source)
            weights[_FIRST] = weights[_FIRST][:, :, ::-1]  # from BGR to RGB
            return Converted(_with_mean_cost(weights), MMFLOW, "official")
    except KeyError as error:
        raise DataError(f"{source} lacks the weights {error}") from None
    except IndexError:
        raise DataError(f"{source} holds kernels whose channels do not fit together") from None
    received = ", ".join(name[:40] for name in list(tensors)[:3])
    raise DataError(f"{source} must hold a PWC-Net as of {_LAYOUTS}. Received: {received}, …")


def _convert_nvlabs(tensors: Mapping[str, np.ndarray], source: str) -> Converted:
    used = {name: value for name, value in tensors.items() if not name.startswith(_UNUSED)}
    project = NVLABS if len(used) < len(tensors) else PTLFLOW
    three = "conv1aa.0.weight" in used  # convolutions at each level of the pyramid
    weights = _renamed(used, _NVLABS | (_SWAPPED if three else {}), source)
    context = "context2/conv1/kernel" in weights
    # ptlflow feeds RGB to its pwcnet, and BGR to pwcnet_nodc (bgr_to_rgb in pwcnet.py).
    if not (project == PTLFLOW and context):
        weights[_FIRST] = weights[_FIRST][:, :, ::-1]
    if not three:
        return Converted(_with_new_order(weights), project, "official-old")
    return Converted(weights, project, "official" if context else "official-nodc")


def _renamed(
    tensors: Mapping[str, np.ndarray], layers: Mapping[str, str], source: str
) -> dict[str, np.ndarray]:
    weights = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if layer not in layers or kind not in ("weight", "bias"):
            raise DataError(f"{source} holds {name[:60]!r}, which no PWC-Net of its layout has")
        if value.dtype.kind not in "fV" or value.ndim != (4 if kind == "weight" else 1):
            received = f"{value.dtype} {value.shape}"
            raise DataError(f"{source}: {name} must be numbers of a {kind}. Received: {received}")
        numbers = np.asarray(value, np.float32)
        if kind == "weight":
            weights[f"{layers[layer]}/kernel"] = numbers.transpose(2, 3, 1, 0)
        else:
            weights[f"{layers[layer]}/bias"] = numbers
    return weights


def _with_mean_cost(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels for the mean over channels from kernels for the sum."""
    scaled = dict(weights)
    cost_channels = weights[f"estimator{_LEVELS[-1]}/conv0/kernel"].shape[2]
    for level in _LEVELS:
        channels = weights[f"pyramid/conv{level}b/kernel"].shape[3]
        for name, axis, parts in _readers(weights, level):
            kernel = np.moveaxis(scaled[name].copy(), axis, -1)
            start = sum(parts[:-1])
            kernel[..., start : start + cost_channels] *= channels
            scaled[name] = np.moveaxis(kernel, -1, axis)
    return scaled


def _with_new_order(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels that read activations newest first, from those of PWCDCNet_old."""
    ordered = dict(weights)
    for level in _LEVELS:
        for name, axis, parts in _readers(weights, level):
            count = len(parts) - 1  # of the activations; the inputs are the part number `count`
            later = range(count - 3, -1, -1)  # from the third activation on
            before = [count, *([count - 1] if count else []), *later]  # as the old network has them
            if count > 1:
                before.insert(0, count - 2)  # the second activation
            ends = dict(zip(before, np.cumsum([parts[part] for part in before]), strict=True))
            index = [np.arange(ends[part] - size, ends[part]) for part, size in enumerate(parts)]
            ordered[name] = np.take(ordered[name], np.concatenate(index), axis)
    return ordered


def _readers(weights: Mapping[str, np.ndarray], level: int) -> Iterator[tuple[str, int, list[int]]]:
    """The kernels that read what an estimator was given and made.

    For each its name, the axis of what it reads, and the channels of the parts of that: the
    activations, newest first, and then the inputs.
    """
    parts = [weights[f"estimator{level}/conv0/kernel"].shape[2]]
    for number in range(5):
        name = f"estimator{level}/conv{number}/kernel"
        yield name, 2, parts
        parts = [weights[name].shape[3], *parts]
    ends = ((f"estimator{level}/flow", 2), (f"up_features{level}", 3), (f"context{level}/conv1", 2))
    for layer, axis in ends:
        if f"{layer}/kernel" in weights:
            yield f"{layer}/kernel", axis, parts
