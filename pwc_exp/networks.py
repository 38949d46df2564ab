"""A network ready to estimate: that of a run, or the configured one with weights from a file."""

from pathlib import Path
from typing import NamedTuple

from pwc_exp.build import build_model
from pwc_exp.config import CONFIG_FILE, load
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.training import PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.weights import load_weights


class Network(NamedTuple):
    """A model that holds weights, and where these lie."""

    model: PWCNet
    source: Path


def load_network(
    *, run: str | None, weights: str | None, model: ModelConfig, precision: PrecisionConfig
) -> Network:
    """Builds a network and assigns its weights; one of `run` and `weights` is given.

    Args:
        run: folder of a training run, which also says which model and precision.
        weights: see `load_weights`.
        model, precision: of the network that `weights` are for.
    """
    made_for = load(Path(run) / CONFIG_FILE) if run else None
    network = build_model(
        made_for.model if made_for else model, made_for.precision if made_for else precision
    )
    return Network(network, load_weights(network, Path(run or weights or "")))
