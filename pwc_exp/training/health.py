"""Checks of a training: non-finite updates are never applied; failed starts are reported.

Some initial weights of PWC-Net never learn. Its authors' remedy is another seed, after a look at
the error "after a few thousand iterations" (https://arxiv.org/abs/1709.02371, section 4.2).
Letters: N inputs, h height and w width of a level.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import NonFiniteError
from pwc_exp.stopping import log

RecordBatch = Callable[[int, Batch, Mapping[str, float]], Path]
MIN_LOSS_SCALE = 1.0  # below, halving it once more helps no gradient


class Guard:
    """Ends a run whose updates are not finite; such updates are never applied.

    Args:
        source: names the samples.
        stop: whether the first non-finite update ends the run. With a loss scale, updates are
            skipped now and then while the scale is adapted, and do not.
        limit: number of updates that may be skipped in a row.
        record: saves all that is needed to repeat an update, and returns the folder. Called when
            the run ends, and for the first skipped update.
    """

    def __init__(self, source: Source, *, stop: bool, limit: int, record: RecordBatch) -> None:
        self._source = source
        self._stop = stop
        self._limit = limit
        self._record = record
        self._in_a_row = 0
        self.skipped = 0  # updates
        self.unknown = 0  # batches without any valid pixel

    def check(self, results: Mapping[str, float], step: int, batch: Batch) -> dict[str, float]:
        """The results without `applied`.

        Raises:
            NonFiniteError: an update was skipped that ends the run. It names step and samples, and
                how to repeat it.
        """
        values = dict(results)
        if values["train/valid"] == 0:
            self.unknown += 1
            if self.unknown == 1:
                log(
                    f"step {step:>9,}   no pixel of the batch is valid: its loss is 0 "
                    f"({self._names(batch)}); further such batches are only counted"
                )
        if values.pop("applied"):
            self._in_a_row = 0
            return values
        self._in_a_row += 1
        self.skipped += 1
        scale = values.get("train/loss_scale")
        ends = (
            (self._stop and scale is None)
            or self._in_a_row > self._limit
            or (scale is not None and scale < MIN_LOSS_SCALE)
        )
        if ends:
            self._end(values, step, batch)
        if self.skipped == 1 and scale is None:
            box = self._record(step, batch, values)
            log(f"step {step:>9,}   update skipped: loss or gradients are not finite; see {box}")
        return values

    def state(self) -> dict[str, int]:
        """The counters, for `restore`."""
        return {"in_a_row": self._in_a_row, "skipped": self.skipped, "unknown": self.unknown}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continues from another guard's `state`."""
        self._in_a_row = int(state["in_a_row"])
        self.skipped = int(state["skipped"])
        self.unknown = int(state["unknown"])

    def _end(self, values: Mapping[str, float], step: int, batch: Batch) -> None:
        received = {name: value for name, value in values.items() if not math.isfinite(value)}
        scale = values.get("train/loss_scale")
        row = f", {self._in_a_row} times in a row" if self._in_a_row > 1 else ""
        of_scale = f", with a loss scale of {scale:g}" if scale is not None else ""
        box = self._record(step, batch, values)
        raise NonFiniteError(
            f"step {step}: loss and gradients must be finite. Received: {received}{row}{of_scale}, "
            f"from {self._source.name}, samples {self._names(batch)}. "
            f"To repeat it: python -m pwc_exp.replay {box}"
        )

    def _names(self, batch: Batch) -> str:
        return ", ".join(self._source.ids[int(index)] for index in batch.index)


def spread_over_inputs(flows: Mapping[int, np.ndarray]) -> dict[int, float]:
    """How much each level's flow depends on the frames, in the unit of `flows`.

    The root mean square, over pixels and components, of the standard deviation over the inputs. It
    is 0 for a head that returns the same flow for all frames.

    Args:
        flows: {level: [N, h, w, 2]}, for N different inputs, at least two.
    """
    spreads = {}
    for level, values in flows.items():
        flow = np.asarray(values)
        if flow.ndim != 4 or len(flow) < 2:
            requirement = "must be [N, h, w, 2] with at least two inputs"
            raise ValueError(f"flows[{level}] {requirement}. Received: {flow.shape}")
        with np.errstate(invalid="ignore"):  # infinite flow has no spread: NaN
            spreads[level] = float(np.sqrt(np.mean(np.var(flow, axis=0, dtype=np.float64))))
    return spreads


class FailedStartDetector:
    """Detects training from random weights that does not start to learn.

    The first `window` steps are left out: in them the loss falls to that of zero flow in any case.
    The mean loss of the next `window` steps is compared with that of the latest.

    Args:
        after: steps before the first verdict, at least three windows. tfoptflow's good runs had
            lost 25 and 34 percent of their validation error between steps 1,000 and 5,000;
            https://github.com/philferriere/tfoptflow/issues/30 nothing by step 50,000.
        window: steps over which the loss is averaged.
        min_drop: share by which the loss must have fallen.
        min_spread: minimum of `spread_over_inputs` at every level, in full-resolution pixels.
            Heads that ignored the frames had at most 0.009, those that learned later at least 0.05
            (the runs of docs/recipes.md and docs/decisions/0008-centered-frames.md).
    """

    def __init__(
        self,
        *,
        after: int = 5000,
        window: int = 1000,
        min_drop: float = 0.1,
        min_spread: float = 0.01,
    ) -> None:
        self._after = after
        self._window = window
        self._min_drop = min_drop
        self._min_spread = min_spread
        self._sums = dict.fromkeys(("first", "latest", "current"), 0.0)
        self._counts = dict.fromkeys(self._sums, 0)

    def add(self, step: int, flow_loss: float) -> None:
        """Adds the data loss of `step`, counted from 1. Values that are not finite are left out."""
        if math.isfinite(flow_loss):
            self._sums["current"] += flow_loss
            self._counts["current"] += 1
        if step % self._window == 0:
            self._move("current", "latest")
            if step == 2 * self._window:
                self._move("latest", "first")
            self._sums["current"], self._counts["current"] = 0.0, 0

    def verdict(self, step: int, spreads: Mapping[int, float]) -> dict[str, str]:
        """What is wrong after `step`, the last that was added: a line for the loss or a level.

        spreads: of each level's flow, in full-resolution pixels.
        """
        if step < self._after:
            return {}
        findings = {}
        first, latest = (
            self._sums[name] / self._counts[name] if self._counts[name] else math.nan
            for name in ("first", "latest")
        )
        if latest > (1 - self._min_drop) * first:  # not of NaN
            findings["loss"] = (
                f"the loss has not fallen in {step - 2 * self._window:,} steps:"
                f" {first:.4g} at first, {latest:.4g} now"
            )
        for level, spread in spreads.items():
            if not math.isfinite(spread):
                findings[f"level {level}"] = f"level {level}: its flow is not finite"
            elif spread < self._min_spread:
                findings[f"level {level}"] = (
                    f"level {level}: its flow does not depend on the frames"
                    f" (spread {spread:.2g} px)"
                )
        return findings

    def state(self) -> dict[str, float | int]:
        """The sums and counts, for `restore`."""
        sums: dict[str, float | int] = {f"{name}_sum": value for name, value in self._sums.items()}
        return sums | {f"{name}_count": value for name, value in self._counts.items()}

    def restore(self, state: Mapping[str, float | int]) -> None:
        """Continues from another detector's `state`."""
        for name in self._sums:
            self._sums[name] = float(state[f"{name}_sum"])
            self._counts[name] = int(state[f"{name}_count"])

    def _move(self, source: str, target: str) -> None:
        self._sums[target], self._counts[target] = self._sums[source], self._counts[source]
