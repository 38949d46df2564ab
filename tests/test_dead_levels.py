"""Which levels learn from fresh weights: with `experiment=modern-small`, and as tfoptflow trained.

In all weights that tfoptflow published, the flow of level 6, and in the small networks of level 5,
is the same for every pair of frames. Run with -s to see the figures.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from pwc_exp.build import build_loss, build_model, build_optimizer, build_schedule, build_source
from pwc_exp.config.data import Split
from pwc_exp.config.training import TrainConfig
from pwc_exp.data.pipeline import eval_batches, train_batches
from pwc_exp.flow.losses import l2_norm
from pwc_exp.flow.resize import target_pyramid
from pwc_exp.inference import make_levels
from pwc_exp.training.health import spread_over_inputs
from pwc_exp.training.step import make_train_step

HELD_OUT = 32
# All of a frame moves by about 28 px, which is what coarse levels are for. In smaller windows level
# 6 sees hardly anything but padding.
SCENES = (
    "data=synthetic",
    "data.crop=[256,256]",
    "data.layers=2",
    "data.coherence=1",
    "data.speed_shares=[0,0.5,0.5]",
    "data.speed_bounds=[0.02,0.08,0.2]",
    "data.film_share=0",
    "augment=none",
)
SHORT = ("batch_size=3", "steps=500")

pytestmark = pytest.mark.slow


class Head(NamedTuple):
    """What a level makes of held-out frames."""

    spread: float  # px, see spread_over_inputs
    correlation: float  # of its flow with the truth, both without their means over the inputs
    error: float  # endpoint error, divided by that of a flow of zero


def learn(config: TrainConfig) -> dict[int, Head]:
    keras.utils.set_random_seed(config.seed)
    model = build_model(config.model, config.precision)
    train_step = make_train_step(
        model,
        build_optimizer(config.optimizer, build_schedule(config.schedule), config.precision),
        build_loss(config.loss, model),
        l2=config.optimizer.l2,
        l2_biases=config.optimizer.l2_biases,
        clip_norm=config.optimizer.clip_norm,
    )
    batches = train_batches(
        build_source(config.data, Split.train),
        batch_size=config.batch_size,
        crop=config.data.crop,
        augment=None,
        seed=config.seed,
        start_step=0,
        steps=config.steps,
    )
    for batch in batches:
        train_step(batch)
    held_out = build_source(config.data, Split.val)
    batch = next(iter(eval_batches(held_out, range(HELD_OUT), batch_size=HELD_OUT, multiple=1)))
    flows = make_levels(model)(batch).flows
    spreads = spread_over_inputs(flows)
    heads = {}
    for level, flow in flows.items():
        target, _ = target_pyramid(batch.flow, batch.valid, [level], alignment="center")[level]
        heads[level] = Head(
            spreads[level],
            correlation(flow.numpy(), target.numpy()),
            float(tf.reduce_mean(l2_norm(flow - target)) / tf.reduce_mean(l2_norm(target))),
        )
    return heads


def correlation(estimate: np.ndarray, target: np.ndarray) -> float:
    estimate, target = estimate - estimate.mean(axis=0), target - target.mean(axis=0)
    return float((estimate * target).sum() / np.sqrt((estimate**2).sum() * (target**2).sum()))


@pytest.mark.parametrize("preset", ["modern-small", "tfoptflow-sm-multisteps"])
def test_coarse_levels_learn_to_follow_the_frames(
    preset: str, configure: Callable[..., Any]
) -> None:
    heads = learn(configure("train", f"experiment={preset}", *SCENES, *SHORT))
    for level, head in heads.items():
        print(
            f"{preset}, level {level}: spread {head.spread:.4f} px, r {head.correlation:.2f},"
            f" error {head.error:.2f}"
        )
    if preset == "modern-small":
        for level in (6, 5):
            assert heads[level].spread > 5.0
            assert heads[level].correlation > 0.5
            assert heads[level].error < 0.8
