"""What it costs that nothing is lost: the share of a training step's time that is not training.

Every step is checked and counted, points go to the journal and the stores, and checkpoints to the
disk. All of it is measured with the parts that a run has, in turn with its steps, and divided by
the steps between two times. Evaluations are not counted. Nor is what the compiled step itself
checks: it is in the step's time.
"""

import itertools
import os
import platform
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from pwc_exp.build import build_augment, build_source
from pwc_exp.config.commands import SafetyConfig
from pwc_exp.config.data import Split, SyntheticConfig
from pwc_exp.config.schema import BEST_KEY
from pwc_exp.config.training import (
    BasicConfig,
    ConstantConfig,
    Precision,
    PrecisionConfig,
    TrackingConfig,
    TrainConfig,
)
from pwc_exp.data.pipeline import train_feed
from pwc_exp.data.sample import Batch
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.sync import PERIOD
from pwc_exp.training.devices import Replicas
from pwc_exp.training.state import RunState

RATE = 1e-6  # learning rate: the weights have to change, not to learn
BURST = 10  # points while the stores are sent those before
PAUSE = 0.005  # s between them
QUIET = 1.5 * PERIOD  # s without work, after which the stores are up to date

STEP = "training step"
ADVANCE = "the same, by RunState"
CHECKS = "fetched, checked, counted"
POINT = "point of the curves"
SENT = "point, sent by other threads"
CHECKPOINT = "checkpoint"
TOGETHER = "together"


class Cost(NamedTuple):
    """How long something took, each time that it was measured, in seconds."""

    seconds: Sequence[float]
    every: int  # steps from one time to the next, in a run

    @property
    def per_step(self) -> float:
        """Seconds of it that come on every step of a run."""
        return statistics.mean(self.seconds) / self.every


class Measured(NamedTuple):
    """A run's steps, and what is added to them."""

    step: Sequence[float]  # s, of compiled steps whose loss is fetched
    advance: Sequence[float]  # s, of `RunState.advance`, which makes the same step
    costs: Mapping[str, Cost]
    busy: Sequence[float]  # s, of those points that came while a store was sent to


def benchmark(config: SafetyConfig) -> None:
    """Prints what is spent beside the training steps, and the share of them that this is."""
    with tempfile.TemporaryDirectory(dir=config.folder, prefix="safety-") as folder:
        print(table(config, measure(config, Path(folder))))


def measure(config: SafetyConfig, folder: Path) -> Measured:
    """Measures all parts in turn, `config.repeats` times, in a run whose folder is `folder`.

    A machine that slows down slows them all. The first turn is not counted.
    """
    run = _run_config(config, folder)
    source = build_source(run.data, Split.train)
    state = RunState(run, source, folder, Replicas(tf.distribute.get_strategy()))
    state.initialize()
    batch = next(
        train_feed(
            source,
            batch_size=run.batch_size,
            crop=run.data.crop,
            augment=build_augment(run.augment),
            seed=run.seed,
            start_step=0,
            steps=1,
        )
    )
    with _tracker(config, run, folder) as tracker:
        clock = _SenderClock()
        turn = _Turn(run, state, batch, tracker, clock)
        turn.take()
        turn.seconds.clear()
        for _ in range(config.repeats):
            turn.take()
    seconds = turn.seconds
    costs = {
        CHECKS: Cost(seconds["checks"], 1),
        POINT: Cost(seconds["quiet"] + seconds["busy"], run.log_every),
        SENT: Cost(seconds["sent"], run.log_every),
        CHECKPOINT: Cost(seconds["checkpoint"], run.save_every),
    }
    return Measured(seconds["step"], seconds["advance"], costs, seconds["busy"])


def table(config: SafetyConfig, measured: Measured) -> str:
    """The costs as text."""
    step, advance = map(statistics.median, (measured.step, measured.advance))
    total = sum(cost.per_step for cost in measured.costs.values())
    height, width = config.train_size
    lines = [
        f"{config.model.name}, float32, {config.train_batch_size} pairs of {height} x {width}, "
        f"{platform.machine()}, {os.cpu_count()} processors, "
        f"{len(tf.config.list_logical_devices('GPU'))} GPUs, {config.repeats} repeats",
        f"{'':<30}{'ms':>10}{'worst':>10}{'every':>8}{'share':>11}",
        _row(STEP, step, max(measured.step), 1, 1.0),
        _row(ADVANCE, advance, max(measured.advance), 1, advance / step),
        *(
            _row(
                name,
                statistics.mean(cost.seconds),
                max(cost.seconds),
                cost.every,
                cost.per_step / step,
            )
            for name, cost in measured.costs.items()
        ),
        f"{TOGETHER:<30}{total * 1000:>10.3f}{1:>18}{total / step:>11.4%}",
        "ms: medians of the first two rows, which differ by noise; means of the others",
        "every: steps. share: of a training step. by other threads: processor time",
        f"a point took {statistics.mean(measured.busy) * 1000:.2f} ms while others were being sent",
    ]
    return "\n".join(lines)


class _Turn:
    """One round of everything; `seconds` keeps what each part took."""

    def __init__(
        self,
        run: TrainConfig,
        state: RunState,
        batch: Batch,
        tracker: Tracker,
        clock: "_SenderClock",
    ) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._run = run
        self._state = state
        self._batches = state.meter.timed(itertools.repeat(batch))
        self._tracker = tracker
        self._clock = clock
        self._turns = 0
        self._numbers = itertools.count(1)  # of points: none may have the step of another

    def take(self) -> None:
        """Takes two steps, the checks of one, some points and a checkpoint."""
        self._take_steps()
        point = {
            **self._state.meter.take(batch_size=self._run.batch_size),
            "train/skipped": self._state.guard.skipped,
        }
        before = self._clock.settled()
        self._note("quiet", lambda: self._tracker.scalars(next(self._numbers), point))
        self.seconds["sent"].append(self._clock.settled() - before)
        for _ in range(BURST):
            self._note("busy", lambda: self._tracker.scalars(next(self._numbers), point))
            time.sleep(PAUSE)
        self._note("checkpoint", self._save)

    def _take_steps(self) -> None:
        trained = self._state.trained  # what `advance` calls, without what it adds
        batch = next(self._batches)
        results: dict[str, tf.Tensor] = {}

        def step() -> None:
            results.update(trained.train_step(self._state.replicas.scatter(batch)))
            float(results["train/loss"])

        pair = [("step", step), ("advance", lambda: self._state.advance(batch))]
        self._turns += 1
        for name, call in pair[:: -1 if self._turns % 2 else 1]:  # neither is always the first
            self._note(name, call)
        # A difference of two steps is lost in their noise. So: a step whose results are there.
        self._state.trained = trained._replace(train_step=lambda _: results)
        self._note("checks", lambda: self._state.advance(batch))
        self._state.trained = trained

    def _save(self) -> None:
        """A checkpoint as a run makes it after an evaluation that was the best so far."""
        self._tracker.flush()
        metrics = {BEST_KEY: 1 / self._state.step}
        self._state.save(metrics, keep_best=self._run.keep_best)

    def _note(self, name: str, call: Callable[[], object]) -> None:
        started = time.perf_counter()
        call()
        self.seconds[name].append(time.perf_counter() - started)


class _SenderClock:
    """The processor time of the threads that feed the stores."""

    def __init__(self) -> None:
        self._clocks = [
            time.pthread_getcpuclockid(thread.ident)
            for thread in threading.enumerate()
            if thread.name.endswith(" sync") and thread.ident is not None
        ]

    def settled(self) -> float:
        """Waits until they have nothing left to do; seconds."""
        used = -1.0
        while (now := sum(map(time.clock_gettime, self._clocks))) != used:
            used = now
            time.sleep(QUIET)
        return used


def _run_config(config: SafetyConfig, folder: Path) -> TrainConfig:
    """A run with the default intervals."""
    return TrainConfig(
        model=config.model,
        data=SyntheticConfig(crop=config.train_size),
        augment=BasicConfig(),
        loss=config.loss,
        optimizer=config.optimizer,
        schedule=ConstantConfig(rate=RATE),
        precision=PrecisionConfig(policy=Precision.fp32),
        tracking=TrackingConfig(),
        outputs=str(folder),
        batch_size=config.train_batch_size,
    )


def _tracker(config: SafetyConfig, run: TrainConfig, folder: Path) -> Tracker:
    return Tracker(
        folder,
        run_name="safety",
        params={},
        tags={},
        uri=config.uri or f"sqlite:///{folder.absolute()}/mlflow.db",
        experiment="benchmark",
        outputs=folder,
        mlflow=run.tracking.mlflow,
        tensorboard=run.tracking.tensorboard,
        required=True,
    )


def _row(name: str, seconds: float, worst: float, every: int, share: float) -> str:
    return f"{name:<30}{seconds * 1000:>10.3f}{worst * 1000:>10.3f}{every:>8,}{share:>11.4%}"
