"""Training runs that take seconds, and what is read of them."""

from pathlib import Path

from pwc_exp.tracking import journal

# Two levels and few channels: what takes time here is the tracing of the network.
NETWORK = (
    *("model=tiny", "model.levels=3", "model.search_range=1", "model.feature_channels=[4,8,12]"),
    *("model.estimator_channels=[8,8]", "model.context_channels=[8]"),
    *("model.context_dilations=[1]", "data.crop=[32,48]", "xla=false"),
)
# The same with every part of a PWC-Net once or twice, for inference.
COMPLETE = (
    *("model=tiny", "model.levels=3", "model.feature_channels=[4,6,8]"),
    *("model.estimator_channels=[8,6]", "model.context_channels=[8,6]"),
    "model.context_dilations=[1,2]",
)
SMALLEST = (*NETWORK, "data.workers=1", "batch_size=2", "picture_samples=0")


def points(folder: Path, key: str) -> dict[int, float]:
    """{step: value} of a curve."""
    read = journal.read(folder / "metrics.jsonl")
    return {point.step: point.values[key] for point in read if key in point.values}
