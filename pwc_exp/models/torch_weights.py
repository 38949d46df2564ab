"""PWC-Net weights from PyTorch files of NVlabs, ptlflow and mmflow, without PyTorch.

A PyTorch file is a pickle beside raw storages, and a pickle is a program. `read_state_dict` runs it
on Python's pickle machine with a closed set of names: the only callables that it can reach are the
stand-ins of this module, and any other name ends the reading.

`convert` then renames the tensors and rearranges them, exactly but for a rounding in mmflow's cost
volume. What differs between the projects, and why: docs/weights.md.
"""

import math
import pickle
import struct
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

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

MAX_ENTRIES = 20_000  # of a zip
MAX_DEPTH = 3  # of a state_dict within dictionaries
STATE_KEYS = ("state_dict", "model_state_dict", "model")  # under which training programs save it
_ZIP_MAGIC = b"PK\x03\x04"
# Files before PyTorch 1.6, such as pwc_net.pth.tar, begin with a pickle of this number.
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
# What Python raises where a zip or a pickle is damaged, beside the ValueErrors of this module.
_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError, EOFError),
    *(RuntimeError, OSError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as PyTorch's do, or may be another pickle."""
    with path.open("rb") as file:
        return file.read(len(_ZIP_MAGIC)).startswith((_ZIP_MAGIC, b"\x80"))


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a model by name, as read-only arrays.

    Raises:
        MissingInputError: no such file.
        DataError: damaged, without weights, or a program; nothing in it was run.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if data.startswith(_ZIP_MAGIC):
            return _to_arrays(*_read_zip(data))
        if data.startswith(_LEGACY_MAGIC):
            return _to_arrays(*_read_legacy(data))
        raise ValueError("it is a pickle, but not a PyTorch file")
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, ValueError):
            reason = f"it is damaged ({type(error).__name__}: {reason})"
        raise DataError(f"{path} is refused, and nothing in it was run: {reason}") from None


class _Storage(NamedTuple):
    """A one-dimensional array in the file, or the part of it that a view covers."""

    key: str
    dtype: np.dtype
    size: int  # of the whole array, in elements
    start: int
    length: int


class _Tensor(NamedTuple):
    """Elements of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor must be part of a storage")
    if not _are_counts(offset, *shape, *strides) or len(shape) > 8:
        raise ValueError("a tensor must have up to 8 sizes and strides, none of them negative")
    return _Tensor(storage, offset, shape, strides)


def _are_counts(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


class _Dict(dict):
    """Replaces `dict` and `OrderedDict`; a nested tuple as a key could take ages to hash."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]] = ()) -> None:
        super().__init__()
        for key, value in pairs:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int | float | None):
            raise ValueError("it has a dictionary with keys that are neither text nor numbers")
        super().__setitem__(key, value)


class _Ignored:
    """Replaces objects beside the weights, such as settings."""

    def __new__(cls, *_: Any) -> "_Ignored":
        return super().__new__(cls)


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
_IGNORED = (
    *("argparse.Namespace", "torch.Size", "torch.device", "torch.bfloat16", "torch.float16"),
    *("torch.float32", "torch.float64", "torch.int64"),
    *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
)
_STAND_INS: dict[str, Any] = {
    "collections.OrderedDict": _Dict,
    "lightning.fabric.utilities.data.AttributeDict": _Dict,
    "lightning_fabric.utilities.data.AttributeDict": _Dict,
    "pytorch_lightning.utilities.parsing.AttributeDict": _Dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    **{f"torch.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **{f"torch.cuda.{name}": dtype for name, dtype in _STORAGE_DTYPES.items()},
    **dict.fromkeys(_IGNORED, _Ignored),
}


class _Unpickler(pickle._Unpickler):
    """Python's pickle machine, with stand-ins for all names.

    The implementation in Python, as that in C lets no subclass replace how it makes dictionaries
    and sets attributes, and takes memory for any index of its memo that a file names.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]

    def __init__(self, stream: BytesIO, storages: dict[str, _Storage]) -> None:
        super().__init__(stream, encoding="latin-1")
        self.storages = storages  # receives those that the pickle refers to

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; no module is imported."""
        full_name = f"{module}.{name}"
        if full_name not in _STAND_INS:
            raise ValueError(f"it names {full_name[:60]!r}, which weights do not need")
        return _STAND_INS[full_name]

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, by ("storage", type, key, device, size[, (key of a view, start, length)])."""
        kind, dtype, key, _, size, *views = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise ValueError("it refers to something other than a storage")
        _, start, length = views[0] if views and views[0] else ("", 0, size)
        if not _are_counts(size, start, length) or start + length > size:
            raise ValueError("a view reaches beyond its storage")
        self.storages[key] = _Storage(key, dtype, size, start, length)
        return self.storages[key]

    def get_extension(self, code: int) -> None:
        """Refuses names that other modules of this process have registered as numbers."""
        raise ValueError(f"it names the extension {code}, which weights do not need")

    def load_empty_dict(self) -> None:
        self.stack.append(_Dict())

    def load_build(self) -> None:
        """Drops the attributes of an object: those of a state_dict are versions of layers."""
        self.stack.pop()

    dispatch[pickle.EMPTY_DICT[0]] = load_empty_dict
    dispatch[pickle.BUILD[0]] = load_build


def _read_zip(data: bytes) -> tuple[Any, dict[str, memoryview]]:
    """The format since PyTorch 1.6: a pickle and its storages, by their keys."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0] if names else ""
        _check_entries(archive.infolist(), root)
        if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
            raise ValueError("its byte order is not little")
        value = _Unpickler(BytesIO(archive.read(f"{root}/data.pkl")), {}).load()
        prefix = f"{root}/data/"
        keys = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        return value, {key: memoryview(archive.read(prefix + key)) for key in keys}


def _check_entries(entries: list[zipfile.ZipInfo], root: str) -> None:
    """Refuses a zip that PyTorch does not write."""
    names = [entry.filename for entry in entries]
    problems = {
        f"has more than {MAX_ENTRIES:,} files": len(entries) > MAX_ENTRIES,
        "is compressed, which PyTorch's files are not": any(
            entry.file_size != entry.compress_size for entry in entries
        ),
        "has a name twice": len(set(names)) != len(names),
        "is not a PyTorch file (one folder with data.pkl)": f"{root}/data.pkl" not in names
        or not all(name.startswith(f"{root}/") and ".." not in name.split("/") for name in names),
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
    stream, used = BytesIO(data), dict[str, _Storage]()
    _, version, machine, value, keys = (_Unpickler(stream, used).load() for _ in range(5))
    if version != 1001 or machine["little_endian"] is not True or not isinstance(keys, list):
        raise ValueError("its head is not that of a PyTorch file")
    storages, start = {}, stream.tell()
    for key in keys:
        (count,) = struct.unpack_from("<q", data, start)
        if count != used[key].size:
            raise ValueError(f"its storage {key[:20]!r} is of another size")
        end = start + 8 + count * used[key].dtype.itemsize
        storages[key] = memoryview(data)[start + 8 : end]
        start = end
    return value, storages


def _to_arrays(value: Any, storages: Mapping[str, memoryview]) -> dict[str, np.ndarray]:
    tensors = _find_tensors(value, MAX_DEPTH)
    if tensors is None:
        keys = ", ".join(STATE_KEYS)
        raise ValueError(f"it holds no tensors by name, at the top or under {keys}")
    used = Counter[str]()
    for tensor in tensors.values():
        used[tensor.storage.key] += math.prod(tensor.shape)
        if used[tensor.storage.key] > tensor.storage.size:
            raise ValueError(f"tensors share elements of storage {tensor.storage.key[:20]!r}")
    # DataParallel puts `module.` before each name.
    prefix = "module." if all(name.startswith("module.") for name in tensors) else ""
    return {
        name.removeprefix(prefix): _to_array(tensor, storages) for name, tensor in tensors.items()
    }


def _find_tensors(value: Any, depth: int) -> dict[str, _Tensor] | None:
    if not isinstance(value, dict) or depth == 0:
        return None
    tensors = {name: item for name, item in value.items() if isinstance(item, _Tensor)}
    if tensors and all(isinstance(name, str) for name in tensors):
        return tensors
    inner = (_find_tensors(value[key], depth - 1) for key in STATE_KEYS if key in value)
    return next((found for found in inner if found is not None), None)


def _to_array(tensor: _Tensor, storages: Mapping[str, memoryview]) -> np.ndarray:
    storage, size = tensor.storage, tensor.storage.dtype.itemsize
    row = storages.get(storage.key, b"")
    if len(row) != storage.size * size:
        raise ValueError(f"storage {storage.key[:20]!r} is missing or of another size")
    view = row[storage.start * size : (storage.start + storage.length) * size]
    strides = [stride * size for stride in tensor.strides]
    # NumPy refuses what reaches beyond the view.
    return np.ndarray(tensor.shape, storage.dtype, view, tensor.offset * size, strides)


_LEVELS = range(2, 7)  # that estimate a flow
_PARTS = ("a", "aa", "b")
_FIRST = "pyramid/conv1a/kernel"
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
# Unlike at other levels, conv6aa comes before conv6a.
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
    raise DataError(
        f"{source} must hold a PWC-Net as of NVlabs/PWC-Net and ptlflow (conv1a.0.weight, …, "
        f"predict_flow2.bias) or mmflow (encoder.layers.0.layers.0.conv.weight, …). "
        f"Received: {received}, …"
    )


def _convert_nvlabs(tensors: Mapping[str, np.ndarray], source: str) -> Converted:
    # NVlabs' network has the layer deconv2, and never uses it.
    used = {name: value for name, value in tensors.items() if not name.startswith("deconv2.")}
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
        # bfloat16 is of kind V
        if value.dtype.kind not in "fV" or value.ndim != (4 if kind == "weight" else 1):
            received = f"{value.dtype} {value.shape}"
            raise DataError(f"{source}: {name} must be numbers of a {kind}. Received: {received}")
        numbers = np.asarray(value, np.float32)
        if kind == "weight":  # [out, in, H, W] to [H, W, in, out]; transposed convolutions likewise
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
        for name, axis, sizes in _readers(weights, level):
            start = sum(sizes[1:])  # the cost volume is the first of the inputs
            kernel = scaled[name] = scaled[name].copy()
            np.moveaxis(kernel, axis, 0)[start : start + cost_channels] *= channels
    return scaled


def _with_new_order(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kernels that read activations newest first, from those of PWCDCNet_old."""
    ordered = dict(weights)
    for level in _LEVELS:
        for name, axis, sizes in _readers(weights, level):
            before = [part for part in (2, 0, 1, 3, 4, 5) if part < len(sizes)]
            ends = np.cumsum([sizes[part] for part in before])
            channels = dict(zip(before, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
            index = np.concatenate([channels[part] for part in reversed(range(len(sizes)))])
            ordered[name] = np.take(ordered[name], index, axis)
    return ordered


def _readers(weights: Mapping[str, np.ndarray], level: int) -> Iterator[tuple[str, int, list[int]]]:
    """The kernels that read what an estimator was given and made, newest first.

    For each its name, the axis of what it reads, and the channels of the parts of that: of the
    inputs, then of the first activation, the second, …
    """
    sizes = [weights[f"estimator{level}/conv0/kernel"].shape[2]]
    for number in range(5):
        name = f"estimator{level}/conv{number}/kernel"
        yield name, 2, sizes
        sizes = [*sizes, weights[name].shape[3]]
    ends = ((f"estimator{level}/flow", 2), (f"up_features{level}", 3), (f"context{level}/conv1", 2))
    for layer, axis in ends:
        if f"{layer}/kernel" in weights:
            yield f"{layer}/kernel", axis, sizes
