"""A network ready to estimate: that of a run, or the configured one with weights from a file."""

import sys
from pathlib import Path
from typing import NamedTuple

from pwc_exp.build import build_model
from pwc_exp.config import CONFIG_FILE, load
from pwc_exp.groups.model import ModelConfig
from pwc_exp.groups.training import PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.origin import Origin
from pwc_exp.weights import load_weights


class Network(NamedTuple):
    """A model that holds weights, and where these are from."""

    model: PWCNet
    origin: Origin

    @property
    def source(self) -> Path:
        """Where the weights lie."""
        return self.origin.path


def load_network(
    *, run: str | None, weights: str | None, model: ModelConfig, precision: PrecisionConfig
) -> Network:
    """Builds a network and assigns its weights; one of `run` and `weights` is given.

    If a licence restricts what the weights may be used for, a line on stderr says so.

    Args:
        run: folder of a training run, which also says which model and precision.
        weights: see `load_weights`.
        model, precision: of the network that `weights` are for.
    """
    made_for = load(Path(run) / CONFIG_FILE) if run else None
    network = build_model(
        made_for.model if made_for else model, made_for.precision if made_for else precision
    )
    origin = load_weights(network, Path(run or weights or ""))
    if notice := origin.notice():
        print(notice, file=sys.stderr)
    return Network(network, origin)
