"""The configurations of what takes a network to other programs: files, and a server."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_one_of, check_positive
from pwc_exp.groups import list_of
from pwc_exp.groups.model import ModelConfig


class Format(StrEnum):
    """What a network can be written as."""

    keras = auto()
    savedmodel = auto()
    onnx = auto()
    tflite = auto()
    tflite_fp16 = auto()
    mlflow = auto()


@dataclass(kw_only=True)
class ExportConfig:
    """A network as files that other programs run."""

    model: ModelConfig
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # file with weights for `model`
    out: str  # folder for the files; it must not be there yet
    formats: list[Format] = list_of(Format.keras, Format.savedmodel, Format.onnx)
    shapes: list[list[int]] = list_of([1, 448, 1024])  # [batch, height, width] of LiteRT's files
    compared: list[list[int]] = list_of(
        [1, 100, 150], [2, 65, 200], [1, 448, 1024]
    )  # [batch, height, width] that formats for any size are compared at

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        check(bool(self.formats), "formats", "must name at least one", self.formats)
        for name in ("shapes", "compared"):
            for shape in getattr(self, name):
                holds = len(shape) == 3 and all(length > 0 for length in shape)
                check(holds, name, "must hold [batch, height, width] of positive numbers", shape)


@dataclass(kw_only=True)
class ServeConfig:
    """The flow of two frames, over HTTP."""

    model: ModelConfig
    run: str | None = None  # folder of a training run: its model and best checkpoint
    weights: str | None = None  # file with weights for `model`
    exported: str | None = None  # folder of one format of an export, such as <out>/savedmodel
    host: str = "127.0.0.1"  # address to listen at; 0.0.0.0: every address of this machine
    port: int = 8080  # 0: any that is free
    max_megabytes: float = 32.0  # of one request, in 10**6 bytes
    max_pixels: int = 4_000_000  # of one frame
    timeout: float = 30.0  # seconds that a client may let the server wait

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights", "exported")
        check_positive("", self, "max_megabytes", "max_pixels", "timeout")
        check(0 <= self.port <= 65535, "port", "must be between 0 and 65535", self.port)
