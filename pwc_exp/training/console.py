"""The terminal output of a run."""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from tqdm import tqdm

from pwc_exp.build import build_skipped
from pwc_exp.config.composition import data_dir
from pwc_exp.config.data import Dataset
from pwc_exp.config.schema import BEST_KEY
from pwc_exp.config.training import OWN, TrainConfig, roots_of
from pwc_exp.data.sample import Sources
from pwc_exp.tracking.mlflow_store import where_to_look
from pwc_exp.training.state import RunState
from pwc_exp.training.validation import Validation

# Networks without normalized features had learned nothing after 500 steps: docs/recipes.md.
_SHORT = 1_000
_LONG = 100_000  # steps


def header(state: RunState, sources: Sources) -> str:
    """The first lines of a run."""
    config = state.config
    lines = [
        f"run    {state.run_dir}",
        f"model  {config.model.name}, {state.model.count_params():,} weights, "
        f"{config.precision.policy}, on {state.replicas.description}",
        *([f"from   {state.origin.path}"] if state.origin else []),
        *([f"       {notice}"] if state.origin and (notice := state.origin.notice()) else []),
        *([f"       {state.transfer.summary()}"] if state.transfer else []),
        *([f"from   step {state.step:,}"] if state.step else []),
        f"data   {sources.train.name}: {sources.train.size:,} samples to train, "
        f"{sources.val.size:,} to validate; crop {config.data.crop[0]} x {config.data.crop[1]}",
    ]
    roots = roots_of(config.validation_sets())
    for prefix, source in sources.validation.items():
        place = f" in {roots[prefix]}" if prefix in roots else ""
        lines.append(f"       {prefix}: {source.size:,} samples of {source.name}{place}")
    train, val = (len(build_skipped(config.data, source)) for source in sources[:2])
    if train or val:
        lines.append(f"       without {train} and {val} quarantined samples")
    if config.data.name == Dataset.synthetic:
        lines.append(
            "       generated scenes; for a published data set: data=flyingchairs data.root=..."
        )
    elif sources.train.ids == sources.val.ids:
        lines.append("       one scene only: validation uses the training samples")
    lines += advice(config) if state.step == 0 else []
    return "\n".join(lines)


def progress_bar(state: RunState) -> "tqdm[None]":
    """The progress bar; only on a terminal of the chief."""
    return tqdm(
        total=state.config.steps,
        initial=state.step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        disable=None if state.replicas.is_chief else True,
    )


def advice(config: TrainConfig) -> list[str]:
    """What to change in a new run that would learn nothing, or that is a recipe of another name."""
    lines = []
    model, schedule = (config.choices.get(group, "") for group in ("model", "schedule"))
    if config.init_from is None and config.steps < _SHORT and not config.model.normalize_features:
        lines.append(
            f"this network is not known to learn in {config.steps:,} steps: add model."
            "normalize_features=true model.center_frames=true, or use experiment=modern-small; "
            "docs/recipes.md"
        )
    recipe = f"tfoptflow-{model}-{schedule}"
    if config.data.name == Dataset.synthetic and config.steps >= _LONG:
        known = (data_dir("experiments") / f"{recipe}.yaml").exists()
        published = (
            f"the published recipe is experiment={recipe} data.root=..., and " if known else ""
        )
        lines.append(
            f"{config.steps:,} steps of generated scenes are a long training: {published}"
            "a first run takes minutes with experiment=quickstart"
        )
    return [f"note   {line}" for line in lines]


def progress(measured: Mapping[str, float], step: int, steps: int) -> str:
    """The line of a step where there is no progress bar: metrics, time per step, expected end."""
    line = f"step {step:>9,}   {in_short(measured)}"
    rate = measured.get("time/steps_per_second", 0.0)
    if rate == 0:
        return line
    left = timedelta(seconds=round((steps - step) / rate))
    end = datetime.now() + left
    at = f"{end:%H:%M}" if left < timedelta(hours=12) else f"{end:%Y-%m-%d %H:%M}"
    return f"{line}, {1 / rate:.3g} s/step, " + (f"{left} left, until {at}" if left else "done")


def in_short(measured: Mapping[str, float]) -> str:
    """The metrics that the progress bar shows."""
    parts = [f"loss {measured['train/loss']:.4g}", f"aepe {measured['train/aepe']:.2f} px"]
    if "time/data_wait" in measured:
        parts.append(f"{measured['time/samples_per_second']:.1f} samples/s")
        parts.append(f"data wait {measured['time/data_wait']:.0%}")
    return ", ".join(parts)


def update_bar(bar: "tqdm[None]", step: int) -> None:
    """Shows `step`; the estimate of the end leaves out the first step, which compiles."""
    if not bar.disable and step == bar.initial + 1:
        bar.unpause()
    bar.update()


def table(state: RunState, validation: Validation) -> str:
    """The last lines of a run."""
    config, tracking = state.config, state.config.tracking
    sets = validation.sets
    curves = [validation.curves[f"{each.prefix}/aepe"] for each in sets]
    rows = {
        "zero-flow baseline": [each.zero_flow for each in sets],
        "at the start": [curve.get(0, math.nan) for curve in curves],
        f"now, step {config.steps:,}": [curve.get(config.steps, math.nan) for curve in curves],
        "best": [min(curve.values(), default=math.nan) for curve in curves],
    }
    lines = ["", "AEPE on the validation samples"]
    if len(sets) > 1:
        names = (
            each.source.name if each.prefix == OWN else each.prefix.removeprefix(f"{OWN}/")
            for each in sets
        )
        lines.append(" " * 22 + "".join(f"{name:>16}" for name in names))
    width = 16 if len(sets) > 1 else 12
    for name, values in rows.items():
        lines.append(f"  {name:<20}" + "".join(f"{f'{aepe:.3f} px':>{width}}" for aepe in values))
    if config.best_metric != BEST_KEY:
        lines.append(f"best checkpoint by {config.best_metric}")
    lines += ["", f"run          {state.run_dir}"]
    if tracking.mlflow or tracking.tensorboard:
        lines += where_to_look(
            state.run_dir,
            uri=tracking.uri,
            experiment=tracking.experiment,
            outputs=Path(config.outputs),
            mlflow=tracking.mlflow,
        )
    return "\n".join(lines)
