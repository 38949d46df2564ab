"""A process that stops a run after each of its steps, goes on from there, and compares all bits.

    python tests/resume_bits.py <steps> <override> ...

Prints a line of JSON: how many points, how many variables, and where any bit differs. All in one
process, with one compiled step: everything is overwritten before it is restored.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from pwc_exp import cli
from pwc_exp.config import composition

cli.prepare_environment()

import numpy as np  # noqa: E402

from pwc_exp import checkpoints  # noqa: E402
from pwc_exp.build import build_source  # noqa: E402
from pwc_exp.config.data import Split  # noqa: E402
from pwc_exp.config.training import TrainConfig  # noqa: E402
from pwc_exp.training.devices import make_replicas  # noqa: E402
from pwc_exp.training.loop import batches  # noqa: E402
from pwc_exp.training.state import RunState  # noqa: E402
from pwc_exp.weights import BEST_KEY  # noqa: E402

Bits = dict[str, bytes]


def bits(state: RunState) -> Bits:
    """Every variable and counter of a run."""
    variables = state.trained.variables
    counters = {name: repr(value).encode() for name, value in sorted(state._progress().items())}
    return {name: np.asarray(value).tobytes() for name, value in variables.items()} | counters


def advance(state: RunState, source: Any) -> list[str]:
    """Goes on to the end, saving after each step; the metrics of each step, as hexadecimal."""
    metrics = []
    for batch in batches(state, source):
        state.advance(batch)
        taken = state.meter.take(batch_size=1) if state.step % 4 == 0 else {}
        metrics.append(
            json.dumps({k: v.hex() for k, v in taken.items() if not k.startswith("time/")})
        )
        if not (state.run_dir / f"checkpoints/step-{state.step:08d}").exists():
            keep(state)
    return metrics


def keep(state: RunState) -> None:
    """Saves a checkpoint that no later one removes."""
    state.save({BEST_KEY: float(state.step)})


def scramble(state: RunState) -> None:
    """Overwrites everything that a checkpoint is to bring back."""
    for variable in state.trained.variables.values():
        variable.assign(np.ones(variable.shape, np.asarray(variable).dtype))
    state.meter.restore({"steps": 77, "train/loss": 1e9})
    state.guard.restore({"in_a_row": 9, "skipped": 9, "unknown": 9})


def main() -> None:
    steps, *overrides = sys.argv[1:]
    composition.register()
    values = composition.compose_command(
        "train", [*overrides, f"steps={steps}", "keep_best=1000000"]
    ).values
    config = cast(TrainConfig, composition.check(values, "train"))
    folder = Path(tempfile.mkdtemp())
    replicas = make_replicas(gpus=None, cpus=config.devices.cpus, cluster=False)
    source = build_source(config.data, Split.train)
    state = RunState(config, source, folder, replicas)
    state.initialize()
    keep(state)
    whole = advance(state, source)
    end = bits(state)
    saved = checkpoints.list_checkpoints(folder / "checkpoints")
    differing: dict[int, list[str]] = {}
    for number, path in enumerate(saved[:-1]):
        scramble(state)
        state.restore(checkpoints.load(path))
        again = advance(state, source)
        other = [name for name, value in bits(state).items() if value != end[name]]
        if again != whole[number:]:
            other.append("metrics")
        if other:
            differing[number] = other
    report = {
        "points": len(saved) - 1,
        "variables": len(state.trained.variables),
        "differing": differing,
        "devices": replicas.count,
        "skipped": state.guard.skipped,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
