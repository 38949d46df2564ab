"""Validation during a run: errors and pictures of the validation sets."""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp.build import build_eval_feed
from pwc_exp.config.commands import BootstrapConfig
from pwc_exp.config.data import DataConfig
from pwc_exp.config.training import MEAN_AEPE, METRICS, OWN
from pwc_exp.data import quarantine
from pwc_exp.data.pipeline import EvalFeed
from pwc_exp.data.sample import Batch, Source, Sources
from pwc_exp.data.source import origins
from pwc_exp.evaluation.bootstrap import intervals
from pwc_exp.evaluation.metrics import BY_NAME
from pwc_exp.flow.metrics import COUNT, SUMS, mean_of_sums
from pwc_exp.inference import EvalStep, make_estimate, make_eval_step, make_levels
from pwc_exp.report.pictures import panel
from pwc_exp.stopping import log
from pwc_exp.tracking import Tracker
from pwc_exp.training.devices import Replicas
from pwc_exp.training.health import spread_over_inputs
from pwc_exp.training.state import RunState

COLUMNS = (COUNT, *SUMS)  # of a sample


class Errors(NamedTuple):
    """The errors of an evaluation; `python -m pwc_exp.evaluate` computes more."""

    means: dict[str, float]  # of the split, see `mean_of_sums`
    samples: list[dict[str, float]]  # the sums of each, see `error_sums`
    scenes: list[str]  # of the samples

    def interval(self) -> dict[str, float]:
        """The 95 % bootstrap interval of the AEPE over scenes, as in `evaluate`.

        lower, upper: in pixels. Empty with fewer than two scenes, or errors that are not finite.
        """
        drawn = BootstrapConfig()
        aepe = [BY_NAME["aepe"]]
        (found,) = intervals(
            self.samples, self.scenes, draws=drawn.draws, seed=drawn.seed, metrics=aepe
        ).values()
        known = np.isfinite([self.means["aepe"], *found]).all()
        return found._asdict() if known else {}


class EvaluatedSet(NamedTuple):
    """A validation set.

    prefix: of its metrics and pictures: val, or val/<name> of another data set.
    batches, pictured: this worker's samples, and those to draw.
    zero_flow: AEPE of the zero-flow baseline, in pixels.
    """

    prefix: str
    source: Source
    batches: EvalFeed
    pictured: EvalFeed
    zero_flow: float


class Validation:
    """Evaluates the network of a run with steps that are compiled once; each sample in one process.

    tracker: of the chief; None in other processes, which draw nothing.

    sets: the validation sets. curves: {key: {step: value}} of the AEPE of each and of
    `best_metric`, including those before a resume. spreads: of the levels' flow over the pictured
    samples, in full-resolution pixels.
    """

    def __init__(self, state: RunState, sources: Sources, tracker: Tracker | None) -> None:
        config = state.config
        self._state = state
        self._tracker = tracker
        self._eval_step = make_eval_step(make_estimate(state.evaluated, xla=config.xla))
        self._zero_step = make_eval_step(lambda frame1, frame2: tf.zeros_like(frame1[..., :2]))
        self._levels = make_levels(state.evaluated)
        self.sets = []
        if config.val_split:
            self.sets.append(self._prepare(OWN, sources.val, config.data))
        for each in config.validation_sets():
            source = sources.validation[each.prefix]
            self.sets.append(self._prepare(each.prefix, source, each.data))
        keys = [*(f"{each.prefix}/aepe" for each in self.sets), config.best_metric]
        self.curves = {key: tracker.history(key) if tracker else {} for key in keys}
        self.spreads: dict[int, float] = {}

    def run(self, step: int) -> dict[str, float]:
        """Logs the errors and pictures of `step`; returns the errors by their keys."""
        points: dict[str, float] = {}
        replicas = self._state.replicas
        for each in self.sets:
            errors = errors_of(self._eval_step, each.batches, each.source, replicas=replicas)
            points |= {f"{each.prefix}/{name}": errors.means[name] for name in METRICS}
            if self._tracker is not None:
                interval = errors.interval().items()
                points |= {f"{each.prefix}/aepe_{end}": value for end, value in interval}
        others = [points[f"{each.prefix}/aepe"] for each in self.sets if each.prefix != OWN]
        if len(others) > 1:
            points[MEAN_AEPE] = geometric_mean(others)
        for key, curve in self.curves.items():
            curve[step] = points[key]
        if self._tracker is not None:
            self._draw(step, self._tracker)
            # Before the values, which mark this step as evaluated: a run that is killed in between
            # evaluates it again, and no picture is lost. All values are one line of the journal, so
            # that either all sets have a value at this step or none.
            self._tracker.flush()
            self._tracker.scalars(step, points)
            shown = [key for key in points if key.endswith("/aepe")]
            log(f"step {step:>9,}   " + ", ".join(f"{key} {points[key]:.3f} px" for key in shown))
        return points

    def _prepare(self, prefix: str, source: Source, data: DataConfig) -> EvaluatedSet:
        config, replicas = self._state.config, self._state.replicas
        listed = None
        if replicas.is_chief:
            # Separate files for other data sets, whose ids may equal those of training samples.
            other = f"quarantine-{prefix.replace('/', '-')}.txt"
            listed = self._state.run_dir / (quarantine.FILE if prefix == OWN else other)
        make_feed = functools.partial(build_eval_feed, data, source, listed=listed)
        batches = make_feed(
            batch_size=config.val_batch_size,
            multiple=2**self._state.model.levels,
            limit=config.eval_samples,
            shard=(replicas.worker, replicas.workers),
        )
        pictured = make_feed(batch_size=1, multiple=1, limit=config.picture_samples)
        still = errors_of(self._zero_step, batches, source, replicas=replicas)
        return EvaluatedSet(prefix, source, batches, pictured, still.means["aepe"])

    def _draw(self, step: int, tracker: Tracker) -> None:
        """Draws samples of each set; of the first with several, measures the levels' spreads."""
        found: dict[int, float] = {}
        for each in self.sets:
            flows: list[dict[int, np.ndarray]] = []
            for batch in each.pictured:
                levels = self._levels(batch)
                flows.append({level: flow[0].numpy() for level, flow in levels.flows.items()})
                name = f"{each.prefix}/{each.source.ids[int(batch.index[0])]}"
                sample = [part[0].numpy() for part in batch[:4]]
                drawn = panel(*sample, estimate=levels.estimate[0].numpy(), flows=flows[-1])
                tracker.image(step, name, drawn)
            alike = [flow for flow in flows if _shapes(flow) == _shapes(flows[0])]
            if len(alike) > 1 and not found:
                stacks = {level: np.stack([flow[level] for flow in alike]) for level in alike[0]}
                found = spread_over_inputs(stacks)
        self.spreads = found or self.spreads


def geometric_mean(errors: Sequence[float]) -> float:
    """The mean of errors of different magnitudes, in which each counts by its ratio."""
    with np.errstate(divide="ignore"):  # of 0, which makes the mean 0
        return float(np.exp(np.mean(np.log(errors))))


def errors_of(
    eval_step: EvalStep, batches: Iterable[Batch], source: Source, *, replicas: Replicas
) -> Errors:
    """Runs a compiled step over all batches of `source`, including those of other workers.

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
