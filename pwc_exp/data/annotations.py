"""What a data set says about its pairs beside frames and flow: scene, occlusion, objects.

Letters: H height, W width; s is the stride of the flow file.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pwc_exp.data.formats.images import read_mask
from pwc_exp.data.formats.io import read_flow
from pwc_exp.data.sample import Sample, Source
from pwc_exp.data.source import FileSource, MixedSource
from pwc_exp.data.synthetic.source import SyntheticSource


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

    Raises:
        UserError: a file is missing or damaged.
    """
    sample = origin.sample
    if sample is None:
        return Annotations(occlusion=_generated_occlusion(source, index))
    masked = sample.valid is not None or sample.invalid is not None
    return Annotations(
        occlusion=_occlusion(sample),
        foreground=None if sample.objects is None else read_mask(sample.objects),
        stored=read_flow(sample.flow)
        if sample.flow is not None and (masked or sample.flow_stride > 1)
        else None,
    )


def _occlusion(sample: Sample) -> np.ndarray | None:
    if sample.occlusion is not None:
        return read_mask(sample.occlusion)
    if sample.visible is not None:
        hidden: np.ndarray = read_flow(sample.visible)[1] == 0
        return hidden
    return None


def _generated_occlusion(source: Source, index: int) -> np.ndarray | None:
    place = index
    if isinstance(source, MixedSource):
        for _, member in source.members:
            if place < member.size:
                source = member
                break
            place -= member.size
    if not isinstance(source, SyntheticSource):
        return None
    hidden: np.ndarray = source.scene(tf.constant(place)).occlusion.numpy() > 0
    return hidden


def datasets(found: Sequence[Origin]) -> list[str]:
    """Names of the data sets, in their order."""
    return list(dict.fromkeys(origin.dataset for origin in found))
