"""Weights that ship with the package, the cards of weights, and which weights a command uses.

    pwc_exp/pretrained/<name>.safetensors    weights in float16, at most 10 MB
    pwc_exp/pretrained/<name>.yaml           their card

`weights=<name>` names such a file. A card beside any other .safetensors file is read too: the
weights are then checked against it, and need no `model=`.
"""

import math
import re
from dataclasses import asdict, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from omegaconf import OmegaConf

from pwc_exp import storage
from pwc_exp.config.fields import Settings, check, not_negative, positive
from pwc_exp.config.schema import CONFIG_FILE, load, read_as
from pwc_exp.config.training import ModelConfig, PrecisionConfig
from pwc_exp.errors import ConfigError, DataError

FOLDER = Path(__file__).resolve().parent
DEFAULTS = ("small", "fast")  # what is used when nothing is named: the first that ships
SUFFIX = ".safetensors"
_SHOWN = 4  # settings in a message


class Stage(Settings):
    """One run of a training, from its first step to the weights that were kept."""

    prefix: ClassVar[str] = "stages."

    run: str  # its name
    steps: int | None = not_negative(None)  # optimizer updates; null, here and below: not known
    hours: float | None = not_negative(None)  # of computing, without interruptions
    machine: str | None = None
    command: str | None = None
    commit: str | None = None  # of pwc_exp
    weights_sha256: str | None = None  # of the checkpoint that was kept


class TrainingData(Settings):
    """A data set that the weights were trained on."""

    name: str
    licence: str
    credit: str = ""


class Result(Settings):
    """Errors on a set of pairs with ground truth."""

    prefix: ClassVar[str] = "results."

    name: str  # of the set
    pairs: int = positive()
    pixels: int = positive()  # of all frames 1, with and without ground truth
    aepe: float = not_negative()  # px, in float32, over the pixels with ground truth
    # px: mean distance of the flows in bfloat16 and float32, over `pixels`
    bfloat16_error: float = not_negative()
    command: str  # that measured it


class Card(Settings):
    """Description of weights: network, training, errors and licence.

    Values of a stage that are not known any more are null.
    """

    network: ModelConfig
    parameters: int = positive()
    sha256: str  # of the file with the weights, hexadecimal
    stages: list[Stage] = field(default_factory=list)  # of the training, first to last
    data: list[TrainingData] = field(default_factory=list)
    licence: str  # of the weights
    float16_error: float | None = not_negative(None)  # px: mean change by rounding to float16
    bfloat16_error: float | None = not_negative(None)  # px: over all `results`; null: not measured
    results: list[Result] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)  # versions and processor, when made

    def __post_init__(self) -> None:
        super().__post_init__()
        known = re.fullmatch(r"[0-9a-f]{64}", self.sha256) is not None
        check(known, "sha256", "must be 64 hexadecimal digits", self.sha256)
        names = [result.name for result in self.results]
        check(len(set(names)) == len(names), "results", "must have different names", names)

    def add(self, result: Result) -> None:
        """Adds the errors on one set of pairs; they replace earlier ones of that name."""
        self.results = [other for other in self.results if other.name != result.name] + [result]
        total = math.fsum(each.bfloat16_error * each.pixels for each in self.results)
        self.bfloat16_error = round(total / sum(each.pixels for each in self.results), 6)


class Selection(NamedTuple):
    """The weights that a command uses, and what is known about them before they are read."""

    path: Path  # see `pwc_exp.weights.load_weights`
    model: ModelConfig
    shipped: str | None = None  # the name of shipped weights
    card: Card | None = None
    precision: PrecisionConfig | None = None  # that of the run


def names() -> list[str]:
    """The names of the weights that ship."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def locate(weights: str | Path) -> Path:
    """The file of the shipped weights of this name, or else `weights` as a path."""
    return FOLDER / f"{weights}{SUFFIX}" if str(weights) in names() else Path(weights)


def card_of(path: Path) -> Card | None:
    """The card of the weights in the file `path`; None if they have none.

    Raises:
        MissingInputError: shipped weights without a card.
        DataError: the file beside the weights is not a card.
    """
    place = card_path(path)
    if path.suffix != SUFFIX or not path.is_file():
        return None
    if path.parent != FOLDER and not place.is_file():
        return None
    return read_as(Card, place, "the card of weights")


def card_path(path: Path) -> Path:
    """The path of the card of the weights in the file `path`."""
    return path.with_suffix(".yaml")


def write_card(path: Path, card: Card) -> None:
    """Writes the card of the weights in the file `path`."""
    storage.write_file(card_path(path), OmegaConf.to_yaml(OmegaConf.structured(card)).encode())


def verify(path: Path, card: Card) -> None:
    """Refuses weights whose sha256 is not the one on their card.

    Raises:
        DataError: both sums are named.
    """
    received = storage.sha256_of(path)
    if received != card.sha256:
        raise DataError(
            f"{path} is damaged: its card says sha256 {card.sha256}. Received: {received}"
        )


def select(*, run: str | None, weights: str | None, model: ModelConfig | None) -> Selection:
    """Finds the weights and the model that they are for.

    Args:
        run: folder of a training run.
        weights: name of shipped weights, or a path; None, with no run either: the shipped default.
        model: None: that of the weights.

    Raises:
        ConfigError: `model` is not that of the weights; or it is needed; or nothing is named and
            nothing ships.
        MissingInputError, DataError: the configuration of the run or the card cannot be read.
    """
    if run is not None:
        made_for = load(Path(run) / CONFIG_FILE)
        _check_same(model, made_for.model, f"run={run} has")
        return Selection(Path(run), made_for.model, precision=made_for.precision)
    if weights is None:
        weights = next((name for name in DEFAULTS if name in names()), None)
    if weights is None:
        raise ConfigError("run or weights must be given, exactly one of them. Received: none")
    path = locate(weights)
    card = card_of(path)
    if card is not None:
        _check_same(model, card.network, f"weights={weights} have")
        return Selection(path, card.network, weights if weights in names() else None, card)
    for folder in (path, path.parent.parent):  # a run, or a checkpoint of one
        if path.is_dir() and (folder / CONFIG_FILE).is_file():
            made_for = load(folder / CONFIG_FILE)
            _check_same(model, made_for.model, f"weights={weights} has")
            return Selection(path, made_for.model, precision=made_for.precision)
    if model is None:
        raise ConfigError(
            f"model must be chosen: weights={weights} do not say which one they are for"
        )
    return Selection(path, model)


def _check_same(model: ModelConfig | None, trained: ModelConfig, whose: str) -> None:
    """Refuses a chosen model that is not the one that weights were trained in."""
    if model is None:
        return
    now, then = asdict(model), asdict(trained)
    unlike = [name for name in then if name != "name" and now[name] != then[name]]
    if unlike:
        more = ", …" if len(unlike) > _SHOWN else ""
        says = ", ".join(f"{name}={then[name]}" for name in unlike[:_SHOWN]) + more
        given = ", ".join(f"{name}={now[name]}" for name in unlike[:_SHOWN]) + more
        raise ConfigError(f"model must be that of the weights: {whose} {says}. Received: {given}")
