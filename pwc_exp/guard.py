"""What keeps numbers that are not finite out of a run, and what is left of them to look at."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from pwc_exp.data.sample import Batch, Source
from pwc_exp.errors import NonFiniteError
from pwc_exp.stopping import say

RecordBatch = Callable[[int, Batch, Mapping[str, float]], Path]
MIN_LOSS_SCALE = 1.0  # below, halving it once more helps no gradient


class Guard:
    """Decides about each update whether the run goes on; one that is not finite is never applied.

    Args:
        source: names the samples.
        stop: whether an update that is not finite ends the run at once. Where there is a loss
            scale, updates are held back now and then while it finds its size.
        limit: updates in a row that may be held back.
        record: keeps a batch whose update was held back, and all that is needed to repeat it, and
            returns the folder. Called when the run ends, and for the first that is skipped.
    """

    def __init__(self, source: Source, *, stop: bool, limit: int, record: RecordBatch) -> None:
        self._source = source
        self._stop = stop
        self._limit = limit
        self._record = record
        self._in_a_row = 0
        self.skipped = 0  # updates that were held back
        self.unknown = 0  # batches without a single pixel whose flow is known

    def check(self, results: Mapping[str, float], step: int, batch: Batch) -> dict[str, float]:
        """The results without `applied`.

        Raises:
            NonFiniteError: an update was held back, or one too many. It names step and samples,
                and how to repeat it.
        """
        values = dict(results)
        if values["train/valid"] == 0:
            self._note_unknown(step, batch)
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
            say(f"step {step:>9,}   skipped, loss or gradients are not finite; see {box}")
        return values

    def state(self) -> dict[str, int]:
        """What is counted, for `restore`."""
        return {"in_a_row": self._in_a_row, "skipped": self.skipped, "unknown": self.unknown}

    def restore(self, state: Mapping[str, float]) -> None:
        """Goes on counting from another guard's `state`."""
        self._in_a_row = int(state["in_a_row"])
        self.skipped = int(state["skipped"])
        self.unknown = int(state["unknown"])

    def _note_unknown(self, step: int, batch: Batch) -> None:
        self.unknown += 1
        if self.unknown == 1:
            say(
                f"step {step:>9,}   no pixel of the batch has a known flow: its loss is 0 "
                f"({self._names(batch)}); further ones are only counted"
            )

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
