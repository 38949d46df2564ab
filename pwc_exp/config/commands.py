"""The configuration of each command other than `train`, a dataclass each.

One line for each setting, with its unit; one without a default must be given. Sizes are (height,
width).
"""

from dataclasses import field
from enum import StrEnum, auto
from pathlib import Path
from typing import Any, ClassVar

from pwc_exp.config.data import DataConfig, Split
from pwc_exp.config.fields import (
    Settings,
    check,
    check_one_of,
    check_size,
    list_of,
    not_negative,
    positive,
    size,
    tcp_port,
)
from pwc_exp.config.training import (
    AugmentConfig,
    DestinationConfig,
    InferencePrecision,
    InferencePrecisionConfig,
    LossConfig,
    ModelConfig,
    NetworkChoice,
    NetworkConfig,
    OptimizerConfig,
    PrecisionConfig,
    SearchConfig,
    TrackingConfig,
    check_level_weights,
)

# Baselines that need no training; OpenCV computes dis and farneback.
Baseline = StrEnum("Baseline", ["zero", "dis", "farneback"])


class Dialect(StrEnum):
    """Metric definitions of a benchmark or codebase; `all`: every one, side by side."""

    sintel = auto()
    kitti = auto()
    raft = auto()
    torchvision = auto()
    mmflow = auto()
    ptlflow = auto()
    spring = auto()
    all = auto()

    @property
    def names(self) -> list[str]:
        """The single protocols that it means."""
        every = [str(member) for member in Dialect if member is not Dialect.all]
        return every if self is Dialect.all else [str(self)]


# What a bootstrap resamples. Frames of one scene are similar, so whole scenes are safer.
Unit = StrEnum("Unit", ["scenes", "samples"])


class BootstrapConfig(Settings):
    """Confidence intervals of an evaluation."""

    prefix: ClassVar[str] = "bootstrap."

    unit: Unit = Unit.scenes  # what is resampled with replacement
    draws: int = positive(2000)  # number of resamples
    seed: int = not_negative(0)  # seed of the resampling


class EvaluateConfig(NetworkConfig):
    """Errors of networks, flow files and baselines on a data set.

    run, weights, exported, predictions and estimate: at least one of them, each with one value or a
    list. With several values in all, a table compares them.
    """

    data: DataConfig | None = None  # data set to evaluate on; null: that of the run
    precision: InferencePrecisionConfig = field(default_factory=InferencePrecisionConfig)
    tracking: TrackingConfig  # whether metrics, pictures and report are logged to MLflow
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    run: Any = None  # folder of a training run: its model and best checkpoint
    weights: Any = None  # name of shipped weights, a run, a checkpoint or a file
    exported: Any = None  # exported network: a folder <out>/<format>
    predictions: Any = None  # folder of flow files, named after the samples
    estimate: Any = None  # baseline: zero; dis or farneback, which need OpenCV
    split: Split = Split.all  # samples to evaluate
    batch_size: int = positive(1)  # samples per step
    dialect: Dialect | None = None  # metric definitions of other codebases, in addition
    pictures: int = not_negative(10)  # worst and best samples drawn in the report
    out: str | None = None  # folder for tables and reports; null: <outputs>/evaluate/<time>
    outputs: str = "outputs"  # folder of all runs
    xla: bool = True  # compile the decoder with XLA where that is faster

    def __post_init__(self) -> None:
        super().__post_init__()
        inputs = ("run", "weights", "exported", "predictions", "estimate")
        for name in inputs:
            setattr(self, name, _texts(name, getattr(self, name)))
        for name in self.estimate:
            requirement = f"must be one or more of {', '.join(Baseline)}"
            check(name in list(Baseline), "estimate", requirement, name)
        self.estimate = [Baseline(name) for name in self.estimate]
        given = any(getattr(self, name) for name in inputs)
        check(given, " or ".join(inputs), "must be given", "none")
        known = self.data is not None or bool(self.run)
        self.require(known, "data", "must be chosen unless a run is evaluated")

    @property
    def networks(self) -> list[NetworkChoice]:
        """One network for each run and each of the weights."""
        runs = [NetworkChoice(run, None) for run in self.run]
        return runs + [NetworkChoice(None, weights) for weights in self.weights]


def _texts(key: str, value: object) -> list[str]:
    """The values of a setting that takes none, one, or a list."""
    values = [] if value is None else _as_list(value)
    for item in values:
        check(isinstance(item, str | int), key, "must be text, or a list of texts", value)
    return [str(item) for item in values]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


class CompareConfig(Settings):
    """Paired comparison of runs or evaluations with the first of them."""

    runs: list[str]  # folders of training runs or of evaluations; the first is the reference
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)
    out: str | None = None  # HTML page; null: outputs/compare/<time>/compare.html

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(len(self.runs) > 1, "runs", "must name at least two folders")


# Which value is best.
Order = StrEnum("Order", ["lowest", "highest"])
# Whether runs that differ only in `seed` are one row.
Seeds = StrEnum("Seeds", ["group", "single"])
# Which runs are listed.
Ended = StrEnum("Ended", ["finished", "any"])


class LeaderboardConfig(Settings):
    """Runs in MLflow, ranked by a metric."""

    tracking: SearchConfig = field(default_factory=SearchConfig)
    outputs: str = "outputs"  # folder of all runs, with MLflow's SQLite file in mlflow/
    metric: str = "val/aepe"  # metric to rank by: the last value of each run
    order: Order = Order.lowest  # which value comes first
    dataset: str | None = None  # only runs trained on this data set (their tag `dataset`)
    recipe: str | None = None  # only runs with this `name`
    parent: str | None = None  # only children of this sweep, such as quickstart/2026-11-26_21-00-00
    best: bool = False  # only the best run of each sweep
    where: str | None = None  # MLflow filter string, such as params.seed = '1'
    status: Ended = Ended.finished  # any: also runs that failed, were stopped or are running
    seeds: Seeds = Seeds.group  # group: one row, mean ± std, for runs that differ only in seed
    top: int = positive(20)  # number of rows
    out: Any = None  # Markdown file, or several, to write it to, too

    def __post_init__(self) -> None:
        super().__post_init__()
        self.out = [] if self.out is None else _as_list(self.out)
        for name in self.out:
            check(str(name).endswith(".md"), "out", "must name files that end in .md", name)
        for key in ("dataset", "recipe", "parent"):
            value = getattr(self, key) or ""
            check("'" not in value, key, "must have no quotation mark", value)


STANDARD_INPUT = "-"
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm"}
_LISTS = {".csv", ".txt"}


# Which flow of a pair is estimated.
Direction = StrEnum("Direction", ["forward", "backward", "both"])


class Output(StrEnum):
    """What is written of each pair, or of all pairs together."""

    flo = auto()  # Middlebury's .flo
    npy = auto()  # NumPy, float32 [H, W, 2]
    kitti = auto()  # KITTI's 16-bit PNG
    flo5 = auto()  # Spring's .flo5
    pfm = auto()
    picture = auto()  # colour coding of Middlebury
    arrows = auto()  # drawn on the frame
    warped = auto()  # the other frame, warped; occluded pixels are marked
    occlusion = auto()  # white: occluded in the other frame
    confidence = auto()  # white: forward and backward flow are consistent
    flow_video = auto()  # of all pairs: colour-coded flow
    side_by_side = auto()  # of all pairs: frame beside flow

    @property
    def is_video(self) -> bool:
        """Whether all pairs together have one file."""
        return self in (Output.flow_video, Output.side_by_side)


class PredictConfig(NetworkConfig):
    """Optical flow of frames, as files."""

    precision: InferencePrecisionConfig = field(default_factory=InferencePrecisionConfig)
    frames: Any  # images [a,b,...]; folder; pattern; list (.txt, .csv); video; - (standard input)
    out: str | None = None  # folder for the results; null: outputs/predict/<time>
    outputs: list[Output] | None = None  # files to write; null: flo, picture; of a video flow_video
    direction: Direction = Direction.forward  # forward: from frame 1 to frame 2
    batch_size: int = positive(1)  # pairs of the same size per step
    resize: list[int] | None = size(None)  # (height, width) to resize frames to for inference
    scale: float | None = positive(None)  # the same, as a factor of their size
    memory_limit: float | None = positive(None)  # GB; larger frames are processed in tiles
    # A pixel is occluded where |forward + backward flow|² is above
    # occlusion_relative · (|forward|² + |backward|²) + occlusion_absolute px².
    occlusion_relative: float = not_negative(0.01)  # relative threshold of the consistency check
    occlusion_absolute: float = positive(0.5)  # absolute threshold of the consistency check, in px²
    max_speed: float | None = positive(None)  # px of full colour; null: measured on a few pairs
    legend: bool = False  # draw a colour wheel into the corner of the pictures
    frame_rate: float | None = positive(None)  # of videos, fps; null: that of the input, else 24
    overwrite: bool = False  # compute results that exist already again
    xla: bool = False  # compile the decoder with XLA where that is faster: 10 s per frame size

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self, "run", "weights", needed=False)
        self.frames = [str(place) for place in _as_list(self.frames)]
        image = len(self.frames) == 1 and Path(self.frames[0]).suffix.lower() in _IMAGES
        pattern = image and any(sign in self.frames[0] for sign in "*?[")
        requirement = "must name two or more images, a folder, a pattern, a list, a video or -"
        self.require(bool(self.frames) and (not image or pattern), "frames", requirement)
        self.require(self.outputs != [], "outputs", "must name at least one")
        both = self.resize is not None and self.scale is not None
        check(not both, "resize", "cannot be combined with scale", [self.resize, self.scale])

    @property
    def reads_video(self) -> bool:
        """Whether `frames` is a video file; of standard input, that is not known."""
        path = Path(self.frames[0])
        images_or_list = path.suffix.lower() in _IMAGES | _LISTS
        return len(self.frames) == 1 and path.is_file() and not images_or_list

    @property
    def kinds(self) -> list[Output]:
        """The kinds of files to write."""
        if self.outputs is not None:
            return self.outputs
        return [Output.flow_video] if self.reads_video else [Output.flo, Output.picture]


# Benchmarks with an evaluation server.
BenchmarkName = StrEnum("BenchmarkName", ["sintel", "kitti2012", "kitti2015", "spring"])


class SubmitConfig(NetworkConfig):
    """A submission to a benchmark: predictions of its test split, in the format of its server."""

    precision: InferencePrecisionConfig = field(default_factory=InferencePrecisionConfig)
    benchmark: BenchmarkName  # benchmark to submit to
    root: str | None = None  # folder of the data set; with check= optional, for the frame sizes
    predictions: str | None = None  # folder of flow files, named as in the bundle or by sample
    check: str | None = None  # existing folder or zip to validate; nothing is computed
    dry_run: bool = False  # use the training split, then read the files back and score them
    clip: bool = False  # clip flow that KITTI's format cannot store (above 512 px)
    zip: bool | None = None  # write a zip, too; null: if the server takes one
    out: str | None = None  # folder for the bundle, which must be new
    xla: bool = False  # compile the decoder with XLA where that is faster: 10 s per frame size

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self, "run", "weights", "predictions", "check")
        needed = self.check is None or self.dry_run
        self.require(self.root is not None or not needed, "root", "must name the data set")

    @property
    def uses_network(self) -> bool:
        """False if existing files are packed or validated."""
        return self.run is not None or self.weights is not None


class Format(StrEnum):
    """Formats that a network can be exported to."""

    keras = auto()
    savedmodel = auto()
    onnx = auto()
    tflite = auto()
    tflite_fp16 = auto()
    mlflow = auto()

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages of the extra `export` that write and run it."""
        return ("onnx", "onnxruntime", "openvino") if self is Format.onnx else ()


DEFAULT_FORMATS = (Format.keras, Format.savedmodel, Format.onnx)


class ExportConfig(NetworkConfig):
    """A network, exported for other runtimes."""

    out: str  # new folder for the files
    formats: list[Format] | None = None  # what to write; null: keras, savedmodel, onnx if installed
    shapes: list[list[int]] = list_of([1, 448, 1024])  # fixed input shapes of LiteRT: [B, H, W]
    # [B, H, W] at which formats with open sizes are compared with the network
    compared: list[list[int]] = list_of([1, 100, 150], [2, 65, 200], [1, 448, 1024])

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self, "run", "weights", needed=False)
        self.require(self.formats != [], "formats", "must name at least one")
        for name in ("shapes", "compared"):
            for shape in getattr(self, name):
                holds = len(shape) == 3 and all(length > 0 for length in shape)
                check(holds, name, "must hold [batch, height, width] of positive numbers", shape)


# Which checkpoint of a run to use.
Checkpoint = StrEnum("Checkpoint", ["best", "last"])


class ExportWeightsConfig(NetworkConfig):
    """Weights in half precision, with a model card."""

    out: str  # new file <name>.safetensors; its card is <name>.yaml beside it
    checkpoint: Checkpoint = Checkpoint.best  # which checkpoint of `run`
    licence: str | None = None  # of the weights; null: MIT if trained on generated scenes only

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self, "run", "weights")
        named = self.out.endswith(".safetensors")
        self.require(named, "out", "must be a file that ends with .safetensors")
        usable = self.checkpoint is Checkpoint.best or self.run is not None
        self.require(usable, "checkpoint", "can only be chosen with run=")


class CardConfig(Settings):
    """Results of weights on a data set, added to their card."""

    data: DataConfig | None = None  # data set to evaluate on
    weights: str  # name of shipped weights, or a file that has a card
    split: Split = Split.all  # samples to evaluate
    label: str | None = None  # name of the result in the card; null: that of the data set

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.data is not None, "data", "must be chosen")


class ServeConfig(NetworkConfig):
    """Optical flow over HTTP."""

    precision: InferencePrecisionConfig = field(default_factory=InferencePrecisionConfig)
    exported: str | None = None  # exported network to serve instead: a folder <out>/<format>
    host: str = "127.0.0.1"  # address to listen on; 0.0.0.0: all interfaces
    port: int = tcp_port(8080)  # port to listen on; 0: any free one
    max_megabytes: float = positive(32.0)  # largest request, in 10**6 bytes
    max_pixels: int = positive(4_000_000)  # largest frame, in pixels
    timeout: float = positive(30.0)  # seconds that a client may take to send a request

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of(self, "run", "weights", "exported", needed=False)
        policy = self.precision.policy
        holds = policy is InferencePrecision.auto or self.exported is None
        check(holds, "precision", "cannot be chosen with exported=", policy)

    @property
    def uses_network(self) -> bool:
        """False if an exported network is served."""
        return self.exported is None


class UiConfig(Settings):
    """MLflow and TensorBoard in the browser, for all runs of a folder."""

    tracking: SearchConfig = field(default_factory=SearchConfig)
    outputs: str = "outputs"  # folder of all runs
    mlflow_port: int = tcp_port(5000)  # port of MLflow on 127.0.0.1; 0: any free one
    tensorboard_port: int = tcp_port(6006)  # port of TensorBoard on 127.0.0.1; 0: any free one


class DescribeConfig(Settings):
    """The layers of a model, its parameters and operations."""

    model: ModelConfig
    size: list[int] = list_of(448, 1024)  # frame size (height, width), in pixels

    def __post_init__(self) -> None:
        super().__post_init__()
        check_size("size", self.size, 2**self.model.levels)


class BenchmarkConfig(Settings):
    """Time of inference, training steps and the input pipeline; error of lower precision."""

    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    precision: PrecisionConfig  # bf16 or fp16: timed beside fp32, with the error in pixels
    data: DataConfig | None = None  # of the input pipeline, beside generated scenes
    augment: AugmentConfig  # augmentation of the input pipeline
    models: list[str] = list_of()  # more choices of the group model, timed alternately with it
    run: str | None = None  # training run whose best checkpoint is used for the error
    weights: str | None = None  # weights that are used for the error: name, run, checkpoint or file
    exported: str | None = None  # folder of an export: its formats are timed beside the network
    frames: list[str] | None = None  # two images for the error; null: pairs of data or a photograph
    inference_size: list[int] = list_of(448, 1024)  # frame size (height, width), in pixels
    train_size: list[int] = list_of(384, 448)  # frame size (height, width), in pixels
    train_batch_size: int = positive(4)  # examples per training step
    repeats: int = positive(5)  # timed calls of each kind
    xla: bool = True  # compile the decoder with XLA where that is faster

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.run is None or self.weights is None, "run or weights", "must be one", "both")
        if self.frames is not None:
            self.require(len(self.frames) == 2, "frames", "must be two images")
        check_size("inference_size", self.inference_size, 2**self.model.levels)
        check_size("train_size", self.train_size, 2**self.model.levels)
        check_level_weights(self.model, self.loss)


class PipelineConfig(Settings):
    """Throughput of the input pipeline: reading, decoding, generating and augmenting."""

    data: DataConfig | None = None  # null: generated files like those of FlyingChairs and Sintel
    augment: AugmentConfig
    crop: list[int] = size([384, 448])  # training window (height, width), in pixels
    seconds: float = positive(5.0)  # duration of each measurement, at least


class DataCheckConfig(Settings):
    """Defects of a data set."""

    data: DataConfig
    split: Split = Split.all  # samples to check
    decode: bool = False  # decode every file; else only headers and file sizes are checked
    convention_samples: int = not_negative(8)  # samples for the check of the flow's direction
    out: str | None = None  # folder for report.json and quarantine.txt


class DataStatsConfig(Settings):
    """Motion statistics of a data set."""

    data: DataConfig
    split: Split = Split.all  # samples to count
    samples: int | None = positive(None)  # at most this many, evenly spaced; null: all
    out: str | None = None  # folder for stats.json


class DataIndexConfig(Settings):
    """The samples of a data set, as a CSV file that `data=csv` reads."""

    data: DataConfig
    split: Split = Split.all  # samples to list
    out: str | None = None  # CSV file; null: a table on the terminal


class DataShowConfig(Settings):
    """A picture of samples of a data set, as training sees them."""

    data: DataConfig
    augment: AugmentConfig
    split: Split = Split.train  # samples to draw
    samples: int = positive(8)  # number of samples
    seed: int = not_negative(0)  # seed of sample order and augmentation
    out: str = "samples.png"  # picture to write


class DataHalfresConfig(Settings):
    """FlyingThings3D at half resolution."""

    root: str  # folder of FlyingThings3D
    out: str  # folder for the half-resolution copy
    workers: int | None = positive(None)  # parallel processes; null: one for each core


class DataFetchConfig(Settings):
    """A download of a data set from its authors' server."""

    data: DataConfig  # data.root is the folder to unpack into
    entry: str | None = None  # catalogue entry of a data set that has several: kitti2012, kitti2015
    accept_licence: bool = False  # false: only show the files and their licence
    keep_archives: bool = False  # false: delete each archive after unpacking


class SyncConfig(Settings):
    """A finished run to bring up to date in MLflow."""

    run: str  # folder of the training run
    tracking: DestinationConfig = field(default_factory=DestinationConfig)


class ReplayConfig(Settings):
    """A non-finite update to repeat."""

    box: str  # recording of the update: a folder in <run>/blackbox
