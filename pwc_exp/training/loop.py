"""The training loop, with validation, checkpoints and logging."""

import dataclasses
import math
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import tensorflow as tf
from tqdm import tqdm

from pwc_exp.build import build_augment, build_on_bad, build_skipped, build_source
from pwc_exp.config.data import Split
from pwc_exp.config.training import OnStuck, TrainConfig
from pwc_exp.data import quarantine
from pwc_exp.data.pipeline import train_feed
from pwc_exp.data.sample import Batch, Source, Sources
from pwc_exp.errors import BusyError, ConfigError, DeviceMemoryError, ResumeError
from pwc_exp.stopping import STOP_FILE, StopSignals, asked_by_file, log
from pwc_exp.tracking import Tracker
from pwc_exp.tracking.record import Record
from pwc_exp.training.console import header, in_short, progress, progress_bar, table, update_bar
from pwc_exp.training.devices import Replicas, make_replicas
from pwc_exp.training.run_dir import acquire_run_dir, describe_run, open_tracker, send_checkpoints
from pwc_exp.training.state import RunState
from pwc_exp.training.validation import Validation


def train(config: TrainConfig, run_dir: Path) -> float:
    """Trains a network, with all files of the run in `run_dir`; returns the last `best_metric`.

    With `config.resume` the run in `run_dir` is resumed. Of several workers only the chief writes.
    """
    devices = config.devices
    replicas = make_replicas(gpus=devices.gpus, cpus=devices.cpus, cluster=devices.cluster)
    # The chief's folder, and whether its run is resumed, in every process.
    folder, _, flag = replicas.agree(f"{run_dir}\n{config.resume is not None}").partition("\n")
    run_dir, resumed = Path(folder), flag == str(True)
    config = dataclasses.replace(config, resume=None)
    _check_devices(config, replicas)
    with ExitStack() as stack:
        stack.enter_context(_device_failures(config, replicas, run_dir))
        changes: dict[str, tuple[Any, Any]] = {}
        if resumed and replicas.is_chief:
            changes = stack.enter_context(acquire_run_dir(run_dir, config, resumed=True))
        sources = build_sources(config)
        state = RunState(config, sources.train, run_dir, replicas)
        if resumed:
            state.resume()
        else:
            state.initialize()
            if replicas.is_chief:  # only now: what is refused above leaves no folder
                stack.enter_context(acquire_run_dir(run_dir, config, resumed=False))
        log(header(state, sources))
        if replicas.any(resumed and replicas.is_chief and _is_finished(state)):
            log(f"The run has finished its {config.steps:,} steps: nothing to do")
            return state.metrics.get(config.best_metric, math.nan)
        signals = stack.enter_context(StopSignals())
        tracker = None
        if replicas.is_chief:
            state.check_space()
            tracker = stack.enter_context(open_tracker(state, changes, resumed=resumed))
            describe_run(tracker, state, sources)
        validation = run(state, sources, tracker=tracker, signals=signals)
        if tracker is not None:
            send_checkpoints(state, tracker)
    replicas.any(False)  # a worker that left before the chief has finished would look lost
    log(table(state, validation))
    return validation.curves[config.best_metric].get(config.steps, math.nan)


def run(
    state: RunState, sources: Sources, *, tracker: Tracker | None, signals: StopSignals
) -> Validation:
    """The training loop, from `state.step` on. The step, one optimizer update, is its only clock.

    tracker: of the chief; None in other processes.
    """
    config = state.config
    validation = Validation(state, sources, tracker)

    def evaluate() -> dict[str, float]:
        values = validation.run(state.step)
        reseeded = _judge_start(state, validation)
        return {} if reseeded else values

    if _is_unevaluated(state, tracker, validation):
        metrics = evaluate()
        if state.step > 0:
            _save(state, tracker, metrics)
    log("compiling the training step ... the first step takes longer")
    with progress_bar(state) as bar:
        for batch in state.meter.timed(batches(state, sources.train)):
            step = state.advance(batch)
            update_bar(bar, step)
            if _due(step, config.log_every, config.steps):
                _log(state, tracker, bar)
            asked = signals.received is not None or (state.run_dir / STOP_FILE).exists()
            stopped = state.replicas.any(asked) and step < config.steps
            evaluated = _due(step, config.eval_every, config.steps) and not stopped
            metrics = evaluate() if evaluated else {}
            if evaluated or stopped or _due(step, config.save_every, config.steps):
                _save(state, tracker, metrics)
            if stopped:
                _stop(state, signals)
    return validation


def build_sources(config: TrainConfig) -> Sources:
    """The samples that train and those of all validation sets."""
    train, val = (build_source(config.data, split) for split in (Split.train, Split.val))
    sets = config.validation_sets()
    return Sources(train, val, {each.prefix: build_source(each.data, each.split) for each in sets})


def batches(state: RunState, source: Source) -> Iterator[Batch]:
    """The remaining batches of a run, of each the part of this worker."""
    config = state.config
    # Only the chief lists skipped samples.
    listed = state.run_dir / quarantine.FILE if state.replicas.is_chief else None
    skipped = build_skipped(config.data, source)
    if listed is not None and listed.exists():  # samples skipped before a resume
        known = quarantine.read(listed)
        skipped |= {number for number, name in enumerate(source.ids) if name in known}
    return train_feed(
        source,
        batch_size=config.batch_size,
        crop=config.data.crop,
        augment=build_augment(config.augment),
        seed=config.seed,
        start_step=state.step,
        steps=config.steps,
        workers=config.data.workers,
        skipped=skipped,
        on_bad=build_on_bad(config.data, listed),
        device=config.augment.device,
        shard=(state.replicas.worker, state.replicas.workers),
    )


def _check_devices(config: TrainConfig, replicas: Replicas) -> None:
    microbatches = config.accumulate * replicas.count
    if config.batch_size % microbatches:
        raise ConfigError(
            f"batch_size must be a multiple of {microbatches}, {replicas.count} devices times "
            f"accumulate={config.accumulate}. Received: {config.batch_size}"
        )
    if config.xla_step and replicas.count > 1:
        raise ConfigError(f"xla_step must be false with {replicas.count} devices. Received: true")


@contextmanager
def _device_failures(config: TrainConfig, replicas: Replicas, run_dir: Path) -> Iterator[None]:
    """Makes one line of TensorFlow's errors of memory and of lost workers."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "OOM" not in error.message and "out of memory" not in error.message.lower():
            raise  # a full disk has the same class
        raise DeviceMemoryError(
            f"a batch must fit the memory of the device. Received: batch_size={config.batch_size}, "
            f"data.crop={config.data.crop}, accumulate={config.accumulate}; a larger accumulate "
            "needs less memory and gives the same result"
        ) from error
    except tf.errors.OpError as error:
        if replicas.workers == 1:
            raise
        reason = " ".join(error.message.split())[:200]
        raise BusyError(
            f"another worker is lost ({type(error).__name__}: {reason}). Start all of them again "
            f"with resume={run_dir}"
        ) from error


def _is_finished(state: RunState) -> bool:
    """Whether the run has made all its steps and logged that everywhere."""
    steps = state.config.steps
    if state.step > steps:
        raise ResumeError(f"steps must be at least {state.step}, the steps made. Received: {steps}")
    return state.step == steps and Record.load(state.run_dir).status == "FINISHED"


def _is_unevaluated(state: RunState, tracker: Tracker | None, validation: Validation) -> bool:
    """Whether the current step still has to be evaluated, because the run was stopped there."""
    due = _due(state.step, state.config.eval_every, state.config.steps)
    made = all(state.step in curve for curve in validation.curves.values())
    return state.replicas.any(tracker is not None and due and not made)


def _due(step: int, every: int, steps: int) -> bool:
    return step % every == 0 or step == steps


def _log(state: RunState, tracker: Tracker | None, bar: "tqdm[None]") -> None:
    measured = state.meter.take(batch_size=state.config.batch_size)
    measured["train/skipped"] = state.guard.skipped
    if tracker is None:
        return
    tracker.scalars(state.step, measured)
    bar.set_postfix_str(in_short(measured))
    if bar.disable:  # not a terminal
        log(progress(measured, state.step, state.config.steps))


def _judge_start(state: RunState, validation: Validation) -> bool:
    """Warns of a failed start; whether training was restarted with new weights."""
    if state.config.init_from is not None:
        return False  # the weights are trained
    findings = state.findings(validation.spreads)
    if not state.replicas.any(bool(findings)):
        return False
    for finding in findings:
        log(f"step {state.step:>9,}   failed start? {finding}")
    reseeded = state.config.on_stuck == OnStuck.reseed and state.reseed()
    if reseeded:
        log(f"step {state.step:>9,}   restarted with new weights")
    return reseeded


def _save(state: RunState, tracker: Tracker | None, metrics: Mapping[str, float]) -> None:
    if tracker is not None:
        tracker.flush()  # first: metrics up to a checkpoint must be on the disk
        state.save(metrics)


def _stop(state: RunState, signals: StopSignals) -> NoReturn:
    """Exits after a request to stop; the state is saved."""
    # None was received: another worker got it, or the stop file was written.
    number = signals.received or signal.SIGTERM
    if reason := asked_by_file(state.run_dir):
        log(f"stop requested: {reason}")
    resume = f"python -m pwc_exp.train resume={state.run_dir}"
    log(f"stopped after step {state.step:,}. To resume: {resume}")
    raise SystemExit(128 + number)
