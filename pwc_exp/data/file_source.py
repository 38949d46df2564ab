"""The source of examples that lie in files."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from pwc_exp.data.images import Size, frame_size, read_frame, read_mask
from pwc_exp.data.io import flow_size, read_flow
from pwc_exp.data.sample import Example, Sample
from pwc_exp.errors import DataError, UserError


class FileSource:
    """Examples read from files as they are asked for.

    crop: (height, width) that training will take; a smaller frame is refused. The headers of the
    first sample are checked at once, so that a wrong crop ends a run before it starts.
    """

    def __init__(
        self, name: str, samples: Sequence[Sample], *, crop: Sequence[int] | None = None
    ) -> None:
        if not samples:
            raise DataError(f"No samples in {name}.")
        self.name = name
        self.size = len(samples)
        self.ids: Sequence[str] = [sample.id for sample in samples]
        self.digest = _digest(name, samples)
        self.failure: UserError | None = None
        self._samples = list(samples)
        self._crop = None if crop is None else Size(*crop)
        first = samples[0]
        self._check_sizes(
            first, frame_size(first.frame1), frame_size(first.frame2), flow_size(first.flow)
        )

    def example(self, index: tf.Tensor) -> Example:
        """Reads example `index`, a scalar; a failure is kept in `failure`."""
        tensors = tf.numpy_function(self._read, [index], [tf.float32] * 4)
        for tensor, channels in zip(tensors, ((3,), (3,), (2,), ()), strict=True):
            tensor.set_shape((None, None, *channels))
        return Example(*tensors)

    def _read(self, index: int) -> list[np.ndarray]:
        try:
            return self._read_sample(self._samples[index])
        except UserError as error:
            self.failure = error
            raise

    def _read_sample(self, sample: Sample) -> list[np.ndarray]:
        frame1, frame2 = read_frame(sample.frame1), read_frame(sample.frame2)
        flow, valid = read_flow(sample.flow)
        self._check_sizes(sample, *(Size(*array.shape[:2]) for array in (frame1, frame2, flow)))
        if sample.invalid is not None:
            invalid = read_mask(sample.invalid)
            _check_same(sample.frame1, Size(*valid.shape), sample.invalid, Size(*invalid.shape))
            valid = np.where(invalid, np.float32(0), valid)
            flow = np.where(invalid[..., None], np.float32(0), flow)
        return [frame1, frame2, flow, valid]

    def _check_sizes(self, sample: Sample, frame1: Size, frame2: Size, flow: Size) -> None:
        _check_same(sample.frame1, frame1, sample.frame2, frame2)
        _check_same(sample.frame1, frame1, sample.flow, flow)
        crop = self._crop
        if crop is not None and (crop.height > frame1.height or crop.width > frame1.width):
            raise DataError(
                f"Frame smaller than data.crop: {sample.frame1}. Expected at least "
                f"{crop.height} x {crop.width} (height x width). "
                f"Received: {frame1.height} x {frame1.width}."
            )


def _check_same(path1: Path, size1: Size, path2: Path, size2: Size) -> None:
    if size1 != size2:
        raise DataError(
            f"Files of one pair differ in size (height x width): {path1} is "
            f"{size1.height} x {size1.width}, {path2} is {size2.height} x {size2.width}."
        )


def _digest(name: str, samples: Sequence[Sample]) -> str:
    """Depends on which files are read, not on where the data set lies or on their content."""
    lines = [name]
    for sample in samples:
        paths = (sample.frame1, sample.frame2, sample.flow, sample.invalid)
        lines += [sample.id, *("/".join(path.parts[-3:]) for path in paths if path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
