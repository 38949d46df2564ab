"""The configurations of what takes a network to other programs: files, and a server."""

from dataclasses import dataclass
from enum import StrEnum, auto

from pwc_exp.checks import check, check_at_most_one_of, check_one_of, check_positive
from pwc_exp.groups import list_of
from pwc_exp.groups.data import DataConfig, Split
from pwc_exp.groups.model import NetworkConfig
from pwc_exp.groups.training import InferencePrecision


class Format(StrEnum):
    """What a network can be written as."""

    keras = auto()
    savedmodel = auto()
    onnx = auto()
    tflite = auto()
    tflite_fp16 = auto()
    mlflow = auto()


@dataclass(kw_only=True)
class ExportConfig(NetworkConfig):
    """A network as files that other programs run."""

    out: str  # folder for the files; it must not be there yet
    formats: list[Format] = list_of(Format.keras, Format.savedmodel, Format.onnx)
    shapes: list[list[int]] = list_of([1, 448, 1024])  # [batch, height, width] of LiteRT's files
    compared: list[list[int]] = list_of(
        [1, 100, 150], [2, 65, 200], [1, 448, 1024]
    )  # [batch, height, width] that formats for any size are compared at

    def __post_init__(self) -> None:
        check_at_most_one_of(self, "run", "weights")
        check(bool(self.formats), "formats", "must name at least one", self.formats)
        for name in ("shapes", "compared"):
            for shape in getattr(self, name):
                holds = len(shape) == 3 and all(length > 0 for length in shape)
                check(holds, name, "must hold [batch, height, width] of positive numbers", shape)


class Checkpoint(StrEnum):
    """Which checkpoint of a run."""

    best = auto()  # by validation
    last = auto()


@dataclass(kw_only=True)
class ExportWeightsConfig(NetworkConfig):
    """Weights as a file of half the size, with a card."""

    out: str  # the file, <name>.safetensors, which must be new; the card is <name>.yaml beside it
    checkpoint: Checkpoint = Checkpoint.best  # of `run`
    licence: str | None = None  # of the weights; null: MIT after generated scenes only, else stated

    def __post_init__(self) -> None:
        check_one_of(self, "run", "weights")
        holds = self.out.endswith(".safetensors")
        check(holds, "out", "must be a file that ends with .safetensors", self.out)
        holds = self.checkpoint is Checkpoint.best or self.run is not None
        check(holds, "checkpoint", "can only be chosen of a run=", self.checkpoint)


@dataclass(kw_only=True)
class CardConfig:
    """Errors of weights on pairs with ground truth, for their card."""

    data: DataConfig | None = None  # pairs to measure
    weights: str  # name of shipped weights, or a file that has a card
    split: Split = Split.all  # samples to measure
    label: str | None = None  # name of the pairs in the card; null: that of the data set

    def __post_init__(self) -> None:
        check(self.data is not None, "data", "must be chosen", self.data)


@dataclass(kw_only=True)
class ServeConfig(NetworkConfig):
    """The flow of two frames, over HTTP."""

    precision: InferencePrecision = InferencePrecision.auto  # number format of the computation
    exported: str | None = None  # folder of one format of an export, such as <out>/savedmodel
    host: str = "127.0.0.1"  # address to listen at; 0.0.0.0: every address of this machine
    port: int = 8080  # 0: any that is free
    max_megabytes: float = 32.0  # of one request, in 10**6 bytes
    max_pixels: int = 4_000_000  # of one frame
    timeout: float = 30.0  # seconds that a client may let the server wait

    def __post_init__(self) -> None:
        check_at_most_one_of(self, "run", "weights", "exported")
        automatic = self.precision is InferencePrecision.auto
        holds = automatic or self.exported is None
        check(holds, "precision", "cannot be chosen for exported", self.precision)
        check_positive("", self, "max_megabytes", "max_pixels", "timeout")
        check(0 <= self.port <= 65535, "port", "must be between 0 and 65535", self.port)

    @property
    def uses_network(self) -> bool:
        """Not if an exported format is served."""
        return self.exported is None
