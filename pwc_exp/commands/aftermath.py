"""The configurations of what follows a run: to send what MLflow lacks, to repeat an update."""

from dataclasses import dataclass, field

from pwc_exp.groups.tracking import DestinationConfig


@dataclass(kw_only=True)
class SyncConfig:
    """What MLflow lacks of a run that has ended."""

    run: str  # folder of the training run
    tracking: DestinationConfig = field(default_factory=DestinationConfig)


@dataclass(kw_only=True)
class ReplayConfig:
    """An update that was not finite, again."""

    box: str  # its black box, a folder in <run>/blackbox
