"""Sources of examples: files on disk, and several sources as one; where each example comes from.

Letters: H height, W width; s is the stride of a flow file.
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.cache import Cache, Record
from pwc_exp.data.formats.headers import Size
from pwc_exp.data.formats.images import (
    graph_frame,
    graph_mask,
    inspect_frame,
    read_frame,
    read_mask,
)
from pwc_exp.data.formats.io import graph_flow, read_flow
from pwc_exp.data.sample import Example, Part, Sample, Source
from pwc_exp.data.synthetic import SyntheticSource
from pwc_exp.errors import DataError, MissingInputError, OutputError, UserError

_TRIED = 20  # samples whose headers may be damaged before the first one that is not
_MASKS = (("valid", True), ("invalid", False))  # what a mask says where the flow is to be used
_FILES = ("frame1", "frame2", "flow", "valid", "invalid")  # that an example is made of


class Decoded(NamedTuple):
    """The arrays of one pair, as `Example` has tensors."""

    frame1: np.ndarray  # [H, W, 3] float32 RGB in [0, 1]
    frame2: np.ndarray  # [H, W, 3]
    flow: np.ndarray  # [H, W, 2] float32, pixels; 0 where not valid
    valid: np.ndarray  # [H, W] float32, 0 or 1


class FileSource:
    """Examples read from files as they are asked for.

    crop: (height, width) that training will take; a smaller frame is refused. That of the first
    sample is looked at already here, so that a wrong crop ends a run before it starts.
    cache: folder of decoded samples, read in place of their files and filled as they are read.
    """

    def __init__(
        self,
        name: str,
        samples: Sequence[Sample],
        *,
        crop: Sequence[int] | None = None,
        cache: str | None = None,
    ) -> None:
        if not samples:
            raise DataError(f"No samples in {name}.")
        self.name = name
        self.size = len(samples)
        self.ids: Sequence[str] = [sample.id for sample in samples]
        self.digest = _digest(name, samples)
        self.parts: Sequence[Part] = (Part(self.size, 1.0),)
        self.samples: Sequence[Sample] = list(samples)
        self._crop = None if crop is None else Size(*crop)
        self._cache: Cache | None = None
        size = self._check_first()
        if cache is not None:
            self._cache = Cache(Path(cache), [f"{name}/{_record_name(s)}" for s in samples])
            self._cache.prepare(size)
        with tf.device("CPU"):
            columns = {role: [getattr(sample, role) for sample in samples] for role in _FILES}
            self._paths = {
                role: tf.constant([str(path or "") for path in paths])
                for role, paths in columns.items()
                if any(paths)
            }
            self._strides = tf.constant([sample.flow_stride for sample in samples])

    def example(self, index: tf.Tensor) -> Example:
        """Reads example `index`, a scalar."""
        if self._cache is None:
            example = self._decode(index)
        else:
            example = Example(*self._cache.get(index, lambda: self._record(index))[:4])
        if self._crop is not None:
            free = tf.shape(example.valid) - list(self._crop)
            tf.debugging.assert_non_negative(free, "A frame is smaller than data.crop.")
        return example

    def failure(self, index: int) -> UserError | None:
        """Why example `index` cannot be read."""
        sample = self.samples[index]
        try:
            content = None if self._cache is None else self._cache.read(index)
            if content is not None:
                self._check_crop(sample, Size(*content.known.shape))
                return None
            decoded = read_sample(sample)
            self._check_crop(sample, Size(*decoded.valid.shape))
            if self._cache is not None:
                self._cache.write(index, Record(*decoded, np.zeros_like(decoded.valid)))
        except OutputError:
            raise
        except UserError as error:
            return error
        return None

    def files(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """The paths of example `index` by their role; empty where it alone lacks one."""
        return {role: paths[index] for role, paths in self._paths.items()}

    def _record(self, index: tf.Tensor) -> Record:
        example = self._decode(index)
        return Record(*example, occlusion=tf.zeros_like(example.valid))

    def _decode(self, index: tf.Tensor) -> Example:
        """Does what `read_sample` does, in TensorFlow's operations."""
        paths = self.files(index)
        frame1, frame2 = graph_frame(paths["frame1"]), graph_frame(paths["frame2"])
        size = tf.shape(frame1)[:2]
        flow, valid = tf.zeros([*tf.unstack(size), 2]), tf.zeros(size)
        if "flow" in paths:
            flow, valid = tf.cond(
                paths["flow"] == "", lambda: (flow, valid), lambda: graph_flow(paths["flow"])
            )
        if any(sample.flow_stride > 1 for sample in self.samples):
            stride = self._strides[index]
            flow, valid = flow[::stride, ::stride], valid[::stride, ::stride]
        for role, kept in _MASKS:
            if role in paths:
                mask = tf.cond(
                    paths[role] == "",
                    functools.partial(tf.fill, size, kept),
                    functools.partial(graph_mask, paths[role]),
                )
                tf.debugging.assert_equal(tf.shape(mask), size, "Sizes differ.")
                valid = tf.where(mask == kept, valid, 0.0)
        for part in (frame2, flow, valid):
            tf.debugging.assert_equal(tf.shape(part)[:2], size, "Sizes differ.")
        return Example(frame1, frame2, tf.where(valid[..., None] > 0, flow, 0.0), valid)

    def _check_first(self) -> Size:
        """Checks the first sample whose frames have readable headers, if one of the first has."""
        failures: list[UserError] = []
        for sample in self.samples[:_TRIED]:
            try:
                size = inspect_frame(sample.frame1)
                _check_same(sample.frame1, size, sample.frame2, inspect_frame(sample.frame2))
            except UserError as error:
                failures.append(error)
            else:
                self._check_crop(sample, size)
                return size
        raise failures[0]

    def _check_crop(self, sample: Sample, size: Size) -> None:
        crop = self._crop
        if crop is not None and (crop.height > size.height or crop.width > size.width):
            raise DataError(
                f"Frame smaller than data.crop: {sample.frame1}. Expected at least "
                f"{crop.height} x {crop.width} (height x width). "
                f"Received: {size.height} x {size.width}."
            )


def read_sample(sample: Sample) -> Decoded:
    """Reads all files of a sample; of one without ground truth, no pixel is valid.

    What it returns is what a cache holds: a change of it raises `cache.VERSION`.
    """
    frame1, frame2 = read_frame(sample.frame1), read_frame(sample.frame2)
    size = Size(*frame1.shape[:2])
    _check_same(sample.frame1, size, sample.frame2, Size(*frame2.shape[:2]))
    if sample.flow is None:
        return Decoded(frame1, frame2, np.zeros((*size, 2), np.float32), np.zeros(size, np.float32))
    flow, valid = read_truth(sample)
    _check_same(sample.frame1, size, sample.flow, Size(*valid.shape))
    return Decoded(frame1, frame2, flow, valid)


def read_truth(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Reads flow, [H, W, 2] float32 in pixels, and valid, [H, W] float32 0/1, and no frame."""
    if sample.flow is None:
        raise DataError(f"{sample.id} has no ground truth.")
    stride = sample.flow_stride
    flow, valid = (part[::stride, ::stride] for part in read_flow(sample.flow))
    for role, kept in _MASKS:
        path = getattr(sample, role)
        if path is not None:
            mask = read_mask(path)
            _check_same(sample.flow, Size(*valid.shape), path, Size(*mask.shape))
            valid = np.where(mask == kept, valid, np.float32(0))
    return np.where(valid[..., None] > 0, flow, np.float32(0)), valid


def _check_same(path1: Path, size1: Size, path2: Path, size2: Size) -> None:
    if size1 != size2:
        raise DataError(
            f"Files of one pair differ in size (height x width): {path1} is "
            f"{size1.height} x {size1.width}, {path2} is {size2.height} x {size2.width}."
        )


def _record_name(sample: Sample) -> str:
    """Name of a record: depends on the names, sizes and times of all files of a sample.

    No file is opened. Moving a data set with its times keeps the names.
    """

    def state(path: Path) -> tuple[str, int, int]:
        try:
            status = path.stat()
        except OSError as error:
            raise MissingInputError(f"{path}: {error.strerror}.") from None
        return "/".join(path.parts[-3:]), status.st_size, status.st_mtime_ns

    paths = [getattr(sample, role) for role in _FILES]
    states = [path and state(path) for path in paths]
    digest = hashlib.sha256(f"{sample.id!r} {sample.flow_stride} {states}".encode()).hexdigest()
    return f"{digest[:2]}/{digest[2:18]}"


def _digest(name: str, samples: Sequence[Sample]) -> str:
    """Depends on which files are read, not on where the data set is or on their content."""
    lines = [name]
    for sample in samples:
        paths = [getattr(sample, role) for role in _FILES]
        lines += [sample.id, str(sample.flow_stride)]
        lines += ["/".join(path.parts[-3:]) for path in paths if path]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


class MixedSource:
    """The examples of `sources`, one source after the other; ids begin with their source's name.

    weights: how many examples are drawn from each, relative to the others; None: all examples are
    equally likely, whichever source they are of.
    labels: what each is called in place of its name; sources of one label are reported as one.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        weights: Sequence[float] | None,
        labels: Sequence[str | None] | None = None,
    ) -> None:
        labels = labels or [None] * len(sources)
        named = zip(labels, sources, strict=True)
        names = distinct([label or source.name for label, source in named])
        self.labels = [label or name for label, name in zip(labels, names, strict=True)]
        self.name = "+".join(names)
        self.size = sum(source.size for source in sources)
        self.members: Sequence[tuple[str, Source]] = list(zip(names, sources, strict=True))
        self.ids: Sequence[str] = [f"{name}/{one}" for name, s in self.members for one in s.ids]
        self.parts: Sequence[Part] = (Part(self.size, 1.0),)
        if weights is not None:
            pairs = zip(sources, weights, strict=True)
            self.parts = [Part(source.size, weight) for source, weight in pairs]
        recipe = [(source.digest, source.size) for source in sources]
        self.digest = hashlib.sha256(repr((recipe, weights)).encode()).hexdigest()[:16]
        self._starts = [sum(s.size for s in sources[:number]) for number in range(len(sources))]

    def example(self, index: tf.Tensor) -> Example:
        """Example `index` of the source that has it."""
        which = tf.searchsorted(self._starts, [tf.cast(index, tf.int32)], side="right")[0] - 1

        def of(source: Source, start: int) -> Callable[[], Example]:
            return lambda: source.example(index - start)

        pairs = zip(self.members, self._starts, strict=True)
        example = tf.switch_case(which, [of(source, start) for (_, source), start in pairs])
        for part, channels in zip(example, ((3,), (3,), (2,), ()), strict=True):
            part.set_shape((None, None, *channels))
        return example

    def failure(self, index: int) -> UserError | None:
        """Why example `index` cannot be read."""
        member, place = self.locate(index)
        return member.failure(place)

    def locate(self, index: int) -> tuple[Source, int]:
        """The source of example `index`, and its index there."""
        which = max(n for n, start in enumerate(self._starts) if start <= index)
        return self.members[which][1], index - self._starts[which]


def distinct(names: Sequence[str]) -> list[str]:
    """Appends a number to names that occur more than once."""
    return [
        f"{name}-{names[:place].count(name) + 1}" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


class Origin(NamedTuple):
    """Where an example of a source comes from."""

    dataset: str  # its name or label, with a number where a mix has the name twice
    scene: str
    sample: Sample | None  # its files; None: it is generated


class Annotations(NamedTuple):
    """Masks of a pair; None where the data set has none."""

    occlusion: np.ndarray | None = None  # [H, W] bool, hidden in frame 2
    foreground: np.ndarray | None = None  # [H, W] bool, objects that move by themselves
    stored: tuple[np.ndarray, np.ndarray] | None = None  # flow [sH, sW, 2] and where it is known


def origins(source: Source) -> list[Origin]:
    """Where each example comes from, by its index."""
    if isinstance(source, MixedSource):
        return [
            origin._replace(dataset=label)
            for label, (_, member) in zip(source.labels, source.members, strict=True)
            for origin in origins(member)
        ]
    if isinstance(source, FileSource):
        return [Origin(source.name, sample.scene, sample) for sample in source.samples]
    return [Origin(source.name, name, None) for name in source.ids]


def read_annotations(source: Source, index: int, origin: Origin) -> Annotations:
    """Reads the masks of example `index`; or asks the generator, which knows what is hidden.

    `stored` is read only where masks or a stride keep parts of the file from the example.
    """
    sample = origin.sample
    if sample is None:
        if isinstance(source, MixedSource):
            source, index = source.locate(index)
        if not isinstance(source, SyntheticSource):
            return Annotations()
        return Annotations(source.scene(tf.constant(index)).occlusion.numpy() > 0)
    occlusion = None
    if sample.occlusion is not None:
        occlusion = read_mask(sample.occlusion)
    elif sample.visible is not None:
        occlusion = read_flow(sample.visible)[1] == 0
    is_cut = sample.valid is not None or sample.invalid is not None or sample.flow_stride > 1
    return Annotations(
        occlusion,
        foreground=None if sample.objects is None else read_mask(sample.objects),
        stored=read_flow(sample.flow) if sample.flow is not None and is_cut else None,
    )
