"""The terminal output of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from pwc_exp.build import build_skipped
from pwc_exp.config.data import Dataset
from pwc_exp.config.schema import BEST_KEY
from pwc_exp.config.training import TrainConfig, roots_of
from pwc_exp.data.sample import Sources
from pwc_exp.tracking.mlflow_store import tracking_uri
from pwc_exp.training.state import RunState


class Summary(NamedTuple):
    """AEPE on a validation set, in pixels."""

    name: str  # of the data set
    zero_flow: float
    start: float
    end: float
    best: float


def header(config: TrainConfig, run_dir: Path, state: RunState, sources: Sources) -> str:
    """The first lines of a run."""
    lines = [
        f"run    {run_dir}",
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
    return "\n".join(lines)


def progress_bar(config: TrainConfig, state: RunState) -> "tqdm[None]":
    """The progress bar; only on a terminal of the chief."""
    return tqdm(
        total=config.steps,
        initial=state.step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        disable=None if state.replicas.is_chief else True,
    )


def in_short(measured: Mapping[str, float]) -> str:
    """The metrics that the progress bar shows."""
    parts = [f"loss {measured['train/loss']:.4g}", f"aepe {measured['train/aepe']:.2f} px"]
    if "time/data_wait" in measured:
        parts.append(f"{measured['time/samples_per_second']:.1f} samples/s")
        parts.append(f"data wait {measured['time/data_wait']:.0%}")
    return ", ".join(parts)


def table(summaries: Sequence[Summary], config: TrainConfig, run_dir: Path) -> str:
    """The last lines of a run."""
    rows = {
        "zero-flow baseline": [summary.zero_flow for summary in summaries],
        "at the start": [summary.start for summary in summaries],
        f"now, step {config.steps:,}": [summary.end for summary in summaries],
        "best": [summary.best for summary in summaries],
    }
    lines = ["", "AEPE on the validation samples"]
    if len(summaries) > 1:
        lines.append(" " * 22 + "".join(f"{summary.name:>16}" for summary in summaries))
    width = 16 if len(summaries) > 1 else 12
    for name, values in rows.items():
        lines.append(f"  {name:<20}" + "".join(f"{f'{aepe:.3f} px':>{width}}" for aepe in values))
    if config.best_metric != BEST_KEY:
        lines.append(f"best checkpoint by {config.best_metric}")
    lines += ["", f"run          {run_dir}"]
    if config.tracking.mlflow:
        address = tracking_uri(config.tracking.uri, Path(config.outputs))
        lines.append(f"MLflow       mlflow ui --backend-store-uri {address}")
    if config.tracking.tensorboard:
        lines.append(f"TensorBoard  tensorboard --logdir {config.outputs}")
    return "\n".join(lines)
