"""Networks to export: small ones, in the conventions of each model."""

from collections.abc import Callable
from typing import Any

import keras

from pwc_exp.build import build_model
from pwc_exp.models.pwcnet import PWCNet

# Level 2's context network, dense estimators, and both conventions, in very few channels.
SMALL = (
    "model.levels=3",
    "model.feature_channels=[6,8,10]",
    "model.estimator_channels=[8,6]",
    "model.context_channels=[8,6]",
    "model.context_dilations=[1,4]",
)
VARIANTS = {
    "tiny": ("model=tiny",),
    "sm": ("model=sm", *SMALL),
    "lg": ("model=lg", *SMALL, "model.center_frames=true"),
    "official": ("model=official", *SMALL, "model.search_range=2"),
}


def make_network(configure: Callable[..., Any], variant: str) -> PWCNet:
    """A network with fresh weights whose flow is some pixels."""
    config = configure("train", *VARIANTS[variant])
    keras.utils.set_random_seed(3)
    model = build_model(config.model, config.precision)
    for estimator in model.estimators.values():
        estimator.head.kernel.assign(estimator.head.kernel * 4.0)
    return model
