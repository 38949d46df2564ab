"""The variables that a run trains, and what updates them."""

from typing import NamedTuple, Self

import keras

from pwc_exp import checkpoints
from pwc_exp.average import Average
from pwc_exp.build import build_loss, build_model, build_optimizer, build_schedule
from pwc_exp.checkpoints import EMA_PREFIX
from pwc_exp.config.training import TrainConfig
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.steps import TrainStep, make_train_step


class Trained(NamedTuple):
    """The variables of a run, and what updates them."""

    model: PWCNet
    optimizer: keras.optimizers.Optimizer
    average: Average | None
    train_step: TrainStep

    @classmethod
    def make(cls, config: TrainConfig) -> Self:
        """With fresh weights, on the devices of the strategy in scope."""
        keras.utils.set_random_seed(config.seed)
        model = build_model(config.model, config.precision)
        optimizer = build_optimizer(
            config.optimizer, build_schedule(config.schedule), config.precision
        )
        average = None
        if config.ema_decay is not None:
            twin = build_model(config.model, config.precision)
            average = Average(twin, decay=config.ema_decay)
        train_step = make_train_step(
            model,
            optimizer,
            build_loss(config.loss, model),
            l2=config.optimizer.l2,
            l2_biases=config.optimizer.l2_biases,
            clip_norm=config.optimizer.clip_norm,
            accumulate=config.accumulate,
            average=average,
            xla=config.xla_step,
        )
        return cls(model, optimizer, average, train_step)

    @property
    def variables(self) -> dict[str, checkpoints.Variable]:
        """All of them, by the names they have in a checkpoint."""
        averages = self.average.model.variables if self.average else []
        return {
            **checkpoints.named_state(self.model, self.optimizer),
            **{EMA_PREFIX + variable.path: variable for variable in averages},
        }
