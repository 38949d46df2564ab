"""The errors and pictures of a network on validation samples, again and again during a run."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp.build import build_eval_feed
from pwc_exp.commands.evaluation import BootstrapConfig
from pwc_exp.commands.training import TrainConfig
from pwc_exp.config import BEST_KEY
from pwc_exp.data.companions import origins
from pwc_exp.data.sample import Batch, Source
from pwc_exp.distribution import Replicas
from pwc_exp.flow.metrics import COUNT, SUMS, mean_of_sums
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.pictures import panel_of
from pwc_exp.scoring.intervals import interval_of
from pwc_exp.scoring.metrics import BY_NAME
from pwc_exp.steps import EvalStep, make_estimate, make_eval_step, make_levels
from pwc_exp.stopping import say
from pwc_exp.stuck import spread_over_inputs
from pwc_exp.tracking import Tracker

COLUMNS = (COUNT, *SUMS)  # of a sample
POINTS = ("aepe", "aepe_per_image", "fl_all", "outlier_3px")  # of the curves


class Errors(NamedTuple):
    """What an evaluation found; `python -m pwc_exp.evaluate` finds more, and takes longer."""

    means: dict[str, float]  # of the split, see `mean_of_sums`
    samples: list[dict[str, float]]  # the sums of each, see `error_sums`
    scenes: list[str]  # of the samples

    def interval(self) -> dict[str, float]:
        """Where the AEPE lies in 95 % of the draws of scenes, as `evaluate` draws them.

        lower, upper: in pixels. Empty if fewer than two scenes, or no finite error, are known.
        """
        drawn = BootstrapConfig()
        found = interval_of(
            BY_NAME["aepe"], self.samples, self.scenes, draws=drawn.draws, seed=drawn.seed
        )
        known = np.isfinite([self.means["aepe"], *found]).all()
        return found._asdict() if known else {}


class Validation:
    """Evaluates the network with steps that are compiled once; each sample once in all processes.

    Args:
        model: what is evaluated.
        listed: where samples that cannot be read are noted; None: nowhere.
        tracker: of the chief; None in other processes, which draw nothing.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: PWCNet,
        source: Source,
        *,
        replicas: Replicas,
        tracker: Tracker | None,
        listed: Path | None,
    ) -> None:
        self._source = source
        self._replicas = replicas
        self._tracker = tracker
        self._eval_step = make_eval_step(make_estimate(model, xla=config.xla))
        self._levels = make_levels(model)
        make_feed = functools.partial(build_eval_feed, config.data, source, listed=listed)
        self._batches = make_feed(
            batch_size=config.val_batch_size,
            multiple=2**model.levels,
            limit=config.eval_samples,
            shard=(replicas.worker, replicas.workers),
        )
        self._pictured = make_feed(batch_size=1, multiple=1, limit=config.picture_samples)
        still = make_eval_step(lambda frame1, frame2: tf.zeros_like(frame1[..., :2]))
        self.zero_flow = errors_of(still, self._batches, source, replicas=replicas).means["aepe"]
        self.spreads: dict[int, float] = {}  # of the levels' flow over the pictures, full-res px

    def run(self, step: int) -> float:
        """Notes the errors and pictures of `step`, and returns the AEPE."""
        errors = errors_of(self._eval_step, self._batches, self._source, replicas=self._replicas)
        aepe = errors.means["aepe"]
        if self._tracker is not None:
            self._draw(step, self._tracker)
            # Before the values, which say that the evaluation of this step has been made: a run
            # that is killed in between makes it again, and no picture is lost.
            self._tracker.flush()
            points = {f"val/{name}": errors.means[name] for name in POINTS}
            points |= {f"{BEST_KEY}_{end}": value for end, value in errors.interval().items()}
            self._tracker.scalars(step, points)
            say(f"step {step:>9,}   {BEST_KEY} {aepe:.3f} px")
        return aepe

    def _draw(self, step: int, tracker: Tracker) -> None:
        flows: list[dict[int, np.ndarray]] = []
        for batch in self._pictured:
            levels = self._levels(batch)
            flows.append({level: flow[0].numpy() for level, flow in levels.flows.items()})
            name = f"val/{self._source.ids[int(batch.index[0])]}"
            tracker.image(step, name, panel_of(batch, levels.estimate, flows[-1]))
        alike = [shown for shown in flows if _shapes(shown) == _shapes(flows[0])]
        if len(alike) > 1:
            self.spreads = spread_over_inputs(
                {level: np.stack([shown[level] for shown in alike]) for level in alike[0]}
            )


def errors_of(
    eval_step: EvalStep, batches: Iterable[Batch], source: Source, *, replicas: Replicas
) -> Errors:
    """Runs a compiled step over all batches of `source`, those of other workers too.

    batches: those of this worker. All workers get the same errors, in the order of the source.
    """
    table = np.zeros((source.size, 1 + len(COLUMNS)), np.float32)  # 1 if evaluated, and the sums
    shown = tqdm(batches, desc="evaluate", disable=None, leave=False)
    for batch, sums in replicas.each(eval_step, shown):
        rows = np.stack([sums[name].numpy() for name in COLUMNS], axis=1)
        table[batch.index.numpy(), 0] = 1
        table[batch.index.numpy(), 1:] = rows
    table = replicas.sum_over_workers(table)
    found = np.flatnonzero(table[:, 0]).tolist()
    samples = [dict(zip(COLUMNS, map(float, table[i, 1:]), strict=True)) for i in found]
    scenes = [f"{origin.dataset}/{origin.scene}" for origin in origins(source)]
    return Errors(mean_of_sums(samples), samples, [scenes[i] for i in found])


def _shapes(flows: dict[int, np.ndarray]) -> list[tuple[int, ...]]:
    return [flow.shape for flow in flows.values()]
