"""A network ready to estimate, with weights that ship, of a run or from a file."""

import sys
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from pwc_exp import pretrained, processor
from pwc_exp.build import build_model
from pwc_exp.config.model import ModelConfig
from pwc_exp.config.training import InferencePrecision, Precision, PrecisionConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.origin import Origin
from pwc_exp.weights import load_weights

BFLOAT16_BOUND = 0.05  # px: the mean error of bfloat16 from which `auto` does not use it


class Network(NamedTuple):
    """A model that holds weights, and where these are from."""

    model: PWCNet
    origin: Origin

    @property
    def source(self) -> Path:
        """The file or checkpoint with the weights."""
        return self.origin.path


class ChosenPrecision(NamedTuple):
    """What a network computes in, and why, if `auto` decided it."""

    precision: Precision
    reason: str = ""


def load_network(
    *,
    run: str | None,
    weights: str | None,
    model: ModelConfig | None,
    precision: InferencePrecision | None,
) -> Network:
    """Builds a network and assigns its weights.

    A line on stdout names weights that ship with the package, another one says what
    precision=auto decided. If a licence restricts what the weights may be used for, a line on
    stderr says so.

    Args:
        run, weights, model: see `pretrained.select`.
        precision: None: that of the run, else float32.
    """
    selection = pretrained.select(run=run, weights=weights, model=model)
    chosen = _resolve(precision, selection)
    network = build_model(selection.model, PrecisionConfig(policy=chosen.precision))
    origin = load_weights(network, selection.path)
    if selection.shipped is not None:
        millions = network.count_params() / 1e6
        print(f"weights: {selection.shipped} (shipped, {millions:.1f}M parameters)")
    if chosen.reason:
        print(f"precision: {network.compute_dtype} ({chosen.reason})")
    if notice := origin.notice():
        print(notice, file=sys.stderr)
    return Network(network, origin)


def choose_precision(card: pretrained.Card | None) -> ChosenPrecision:
    """bfloat16 where it is fast and, by the card of the weights, accurate; float32 otherwise."""
    device = "GPU" if tf.config.list_physical_devices("GPU") else "processor"
    if not _has_bfloat16():
        return ChosenPrecision(Precision.fp32, f"this {device} has no bfloat16 arithmetic")
    error = card.bfloat16_error if card is not None else None
    if error is None:
        reason = "no card says how far bfloat16 moves the flow"
        return ChosenPrecision(Precision.fp32, reason)
    moved = f"bfloat16 moves the flow by {error:.3f} px"
    if error < BFLOAT16_BOUND:
        return ChosenPrecision(Precision.bf16, moved)
    return ChosenPrecision(Precision.fp32, f"{moved}, {BFLOAT16_BOUND} px or more")


def _resolve(
    precision: InferencePrecision | None, selection: pretrained.Selection
) -> ChosenPrecision:
    if precision is None:
        run = selection.precision
        return ChosenPrecision(run.policy if run else Precision.fp32)
    if precision is not InferencePrecision.auto:
        return ChosenPrecision(Precision(precision))
    return choose_precision(selection.card)


def _has_bfloat16() -> bool:
    """Whether the devices that compute have bfloat16 arithmetic; NVIDIA's do from Ampere on."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return processor.has_bfloat16()
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return all(each.get("compute_capability", (0, 0)) >= (8, 0) for each in details)
