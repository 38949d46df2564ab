"""The configuration of a prediction."""

from dataclasses import dataclass
from pathlib import Path

from pwc_exp.checks import check, check_one_of
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.training import PrecisionConfig


@dataclass(kw_only=True)
class PredictConfig:
    """Flow of consecutive frames, as files."""

    model: ModelConfig
    precision: PrecisionConfig
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # file with weights for `model`
    frames: list[str]  # image files, at least two, consecutive frames; or one folder of them
    out: str  # folder for the flow files and pictures
    xla: bool = False  # let XLA compile the decoder, where that pays: about 10 s per frame size

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        single = len(self.frames) == 1 and Path(self.frames[0]).is_file()
        requirement = "must name at least two files, or a folder"
        check(bool(self.frames) and not single, "frames", requirement, self.frames)
