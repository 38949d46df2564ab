"""All that changes while a run trains: its variables and counters, saved and restored as one."""

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import keras
import numpy as np
import tensorflow as tf

from pwc_exp import checkpoints, machine, storage
from pwc_exp.build import build_loss, build_model, build_optimizer, build_schedule
from pwc_exp.checkpoints import EMA_PREFIX, Checkpoint, Scalar
from pwc_exp.config.schema import CHECKPOINTS
from pwc_exp.config.training import InitMatch, OnNonFinite, TrainConfig
from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import DiskFullError, ResumeError
from pwc_exp.machine import processors
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.models.transfer import Transfer
from pwc_exp.optimizers import Average
from pwc_exp.stopping import log
from pwc_exp.tracking.record import library_versions
from pwc_exp.training.devices import Replicas
from pwc_exp.training.health import FailedStartDetector, Guard
from pwc_exp.training.step import TrainStep, make_train_step
from pwc_exp.weights import WeightsInfo, load_weights, transfer_weights

_T = TypeVar("_T")


class Throughput:
    """Averages the metrics of steps, and measures how their time was spent.

    The time of a step is its wait for data and the work until `add`, without evaluations, pictures
    and checkpoints, which come later. The first step, which compiles, is left out.
    """

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._steps = 0
        self._timed = 0
        self._waited = 0.0
        self._worked = 0.0
        self._asked = self._received = 0.0
        self._compiled = False

    def timed(self, batches: Iterable[_T]) -> Iterator[_T]:
        """The same batches; measures the wait for each."""
        iterator = iter(batches)
        while True:
            self._asked = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self._received = time.perf_counter()
            yield batch

    def add(self, values: Mapping[str, float]) -> None:
        """Adds the metrics of the step that was made with the last batch."""
        for name, value in values.items():
            self._sums[name] += value
        self._steps += 1
        if self._compiled:
            self._timed += 1
            self._waited += self._received - self._asked
            self._worked += time.perf_counter() - self._received
        self._compiled = True

    def state(self) -> dict[str, float]:
        """The sums since the last `take`, without the times, for `restore`."""
        return {**self._sums, "steps": self._steps}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continues from another object's `state`."""
        self._sums.clear()
        self._sums.update(state)
        self._steps = int(self._sums.pop("steps"))

    def take(self, *, batch_size: int) -> dict[str, float]:
        """Means since the last call; steps and samples per second; share of time spent waiting."""
        means = {name: total / self._steps for name, total in self._sums.items()}
        seconds = self._waited + self._worked
        if seconds > 0:
            means["time/steps_per_second"] = self._timed / seconds
            means["time/samples_per_second"] = self._timed * batch_size / seconds
            means["time/data_wait"] = self._waited / seconds
        self._sums.clear()
        self._steps = self._timed = 0
        self._waited = self._worked = 0.0
        return means


BLACK_BOX = "blackbox"  # folder of a run: recordings of non-finite updates
BATCH_PREFIX = "batch/"  # names of the arrays of a recorded batch
MAX_RESEEDS = 3  # of one run
MAX_FAILED_SAVES = 3  # in a row, on a full disk
_SEEDS_APART = 7919
DATA = "data"  # fingerprint key: digest of the training samples


class RunState:
    """A run between two steps.

    source: the samples that train.
    """

    def __init__(
        self, config: TrainConfig, source: Source, run_dir: Path, replicas: Replicas
    ) -> None:
        self.step = 0  # updates made, including skipped ones
        self.metrics: Mapping[str, float] = {}  # of the checkpoint that was restored
        self.origin: WeightsInfo | None = None  # of initial weights that are not random
        self.transfer: Transfer | None = None  # with init_match=overlap
        self.config = config
        self.run_dir = run_dir
        self.replicas = replicas
        self._folder = run_dir / CHECKPOINTS
        self._fingerprint = {**environment(replicas), DATA: source.digest}
        self._reseeds = 0
        self._failed_saves = 0
        with replicas.strategy.scope():
            self.trained = TrainState.make(config)
        self.meter = Throughput()
        self.guard = Guard(
            source,
            stop=config.on_nonfinite == OnNonFinite.stop,
            limit=config.nonfinite_limit,
            record=self._record_batch,
        )
        self._stuck = FailedStartDetector()
        self._begun = 0  # step of the last reseed
        self._told: set[str] = set()

    def advance(self, batch: Batch) -> int:
        """Makes one update with this worker's part of a batch, and returns its step.

        Raises:
            NonFiniteError: it is not finite and ends the run; see `Guard`. Nothing has changed.
        """
        step = self.step + 1
        results = self.trained.train_step(self.replicas.scatter(batch))
        values = self.guard.check({k: float(v) for k, v in results.items()}, step, batch)
        self.meter.add(values)
        self._stuck.add(step - self._begun, values["train/flow_loss"])
        self.step = step
        return step

    def findings(self, spreads: Mapping[int, float]) -> list[str]:
        """New signs of a failed start, a line each.

        spreads: of the levels' flow, see `spread_over_inputs`; empty if nothing was drawn.
        """
        found = self._stuck.verdict(self.step - self._begun, spreads)
        new = [text for topic, text in found.items() if topic not in self._told]
        self._told.update(found)
        return new

    @property
    def model(self) -> PWCNet:
        """The network that is trained."""
        return self.trained.model

    @property
    def evaluated(self) -> PWCNet:
        """The network that is validated: the moving average of the weights, if there is one."""
        return self.trained.average.model if self.trained.average else self.model

    def initialize(self) -> None:
        """Sets the initial weights."""
        if self.config.init_from:
            path = Path(self.config.init_from)
            if self.config.init_match == InitMatch.overlap:
                self.origin, self.transfer = transfer_weights(self.model, path)
            else:
                self.origin = load_weights(self.model, path)
        self._start_average()

    def resume(self) -> None:
        """Restores the newest intact checkpoint of the run; without any, starts anew.

        Raises:
            DataError: all checkpoints are damaged.
            ResumeError: the newest is of another configuration or other samples.
        """
        found = checkpoints.newest_intact(self._folder) if self.replicas.is_chief else None
        name = self.replicas.agree(found.path.name if found else "")
        if not name:
            self.initialize()
            return
        self.restore(found or checkpoints.load(self._folder / name))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restores everything as it was when `checkpoint` was saved."""
        then = checkpoint.manifest.fingerprint
        if then[DATA] != self._fingerprint[DATA]:
            raise ResumeError(
                "data.root must hold the samples that the run started with. Their digest was "
                f"{then[DATA]}. Received: {self._fingerprint[DATA]}"
            )
        others = [key for key, now in self._fingerprint.items() if then.get(key) != now]
        if others and self.replicas.is_chief:
            changes = (f"{key} {then.get(key)} -> {self._fingerprint[key]}" for key in others)
            log(f"resume: not bit for bit, because of {', '.join(changes)}")
        checkpoints.restore(self.trained.variables, checkpoint)
        progress = checkpoint.manifest.progress
        for name, counter in self._counters().items():
            own = {k: v for k, v in progress.items() if k.startswith(f"{name}/")}
            counter.restore({key.removeprefix(f"{name}/"): float(own[key]) for key in own})
        self._reseeds = int(progress["reseeds"])
        self._begun = int(progress["begun"])
        self.step, self.metrics = checkpoint.step, checkpoint.manifest.metrics

    def save(self, metrics: Mapping[str, float]) -> None:
        """Writes a checkpoint of this step, and removes those that need not be kept.

        A full disk is reported and survived twice in a row; the previous checkpoint is kept.

        Raises:
            DiskFullError: the third time.
        """
        try:
            checkpoints.save(
                self._folder,
                step=self.step,
                state=self.trained.variables,
                metrics=metrics,
                fingerprint=self._fingerprint,
                progress=self._progress(),
            )
            self._retain()
        except DiskFullError as error:
            self._failed_saves += 1
            if self._failed_saves == MAX_FAILED_SAVES:
                raise
            log(f"step {self.step:>9,}   no checkpoint: {error}; the previous one is kept")
        else:
            self._failed_saves = 0

    def check_space(self) -> None:
        """Checks that the disk has room for the checkpoints of the run.

        Superfluous checkpoints, and leftovers of a killed process, are removed first.
        """
        self._retain()
        size = sum(np.asarray(variable).nbytes for variable in self.trained.variables.values())
        kept = len(checkpoints.list_checkpoints(self._folder))
        storage.make_folder(self._folder)
        # One more exists while the newest is written.
        storage.check_space(self._folder, size * max(1, self.config.keep_best + 3 - kept))

    def _retain(self) -> None:
        keep_best, key = self.config.keep_best, self.config.best_metric
        checkpoints.retain(self._folder, keep_best=keep_best, key=key)

    def reseed(self) -> bool:
        """Restarts with weights of another seed; False after `MAX_RESEEDS`.

        Schedule and step continue; the optimizer's moments are reset.
        """
        if self._reseeds == MAX_RESEEDS:
            return False
        self._reseeds += 1
        keras.utils.set_random_seed(self.config.seed + _SEEDS_APART * self._reseeds)
        fresh = build_model(self.config.model, self.config.precision)
        for mine, new in zip(self.model.variables, fresh.variables, strict=True):
            mine.assign(new.value)
        optimizer = self.trained.optimizer
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        for variable in inner.variables:
            if variable is not inner.iterations and len(variable.shape) > 0:
                variable.assign(np.zeros(variable.shape, variable.dtype))
        self._start_average()
        self._stuck = FailedStartDetector()
        self._begun = self.step
        self._told.clear()
        return True

    def _start_average(self) -> None:
        if self.trained.average:
            self.trained.average.start(self.model.trainable_variables)

    def _progress(self) -> dict[str, Scalar]:
        counted = {
            f"{name}/{key}": value
            for name, counter in self._counters().items()
            for key, value in counter.state().items()
        }
        return {**counted, "reseeds": self._reseeds, "begun": self._begun}

    def _counters(self) -> dict[str, Throughput | Guard | FailedStartDetector]:
        return {"meter": self.meter, "guard": self.guard, "stuck": self._stuck}

    def _record_batch(self, step: int, batch: Batch, results: Mapping[str, float]) -> Path:
        """Records an update: batch, all variables, results; of the chief's part of the batch."""
        boxes = self.run_dir / BLACK_BOX
        if not self.replicas.is_chief:
            return boxes
        if (old := boxes / f"step-{step:08d}").exists():  # from before a resume
            storage.remove_folder(old)
        arrays = {f"{BATCH_PREFIX}{name}": part.numpy() for name, part in batch._asdict().items()}
        return checkpoints.save(
            boxes,
            step=step,
            state=self.trained.variables | arrays,
            metrics=results,
            fingerprint=self._fingerprint,
            progress=self._progress(),
        )


class TrainState(NamedTuple):
    """The variables of a run, and the step that updates them."""

    model: PWCNet
    optimizer: keras.optimizers.Optimizer
    average: Average | None
    train_step: TrainStep

    @classmethod
    def make(cls, config: TrainConfig) -> Self:
        """With random weights, on the devices of the strategy in scope."""
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
        """All variables, by their names in a checkpoint."""
        averages = self.average.model.variables if self.average else []
        return {
            **checkpoints.named_state(self.model, self.optimizer),
            **{EMA_PREFIX + variable.path: variable for variable in averages},
        }


def environment(replicas: Replicas) -> dict[str, str]:
    """What the bits of a result depend on, apart from the configuration."""
    threads = tf.config.threading
    return {
        **library_versions(),
        "processor": machine.model_name(),
        "threads": f"{threads.get_intra_op_parallelism_threads() or len(processors())}",
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
        "devices": f"{replicas.count} {replicas.device_name} in {replicas.workers} processes",
    }
