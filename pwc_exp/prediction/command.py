"""The command: every pair of a source goes through the network, and its results are written."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import Direction, PredictConfig
from pwc_exp.errors import DataError
from pwc_exp.prediction.estimation import GIGABYTE, Estimator, find_max_speed
from pwc_exp.prediction.outputs import SCALED, Estimated, Outputs, Videos
from pwc_exp.prediction.sources import OF_ONE_PAIR, Pair, Source, open_source
from pwc_exp.weights import load_network

LISTED = 10  # pairs at most whose files are listed on the terminal


def predict(config: PredictConfig) -> None:
    """Writes the results of every pair.

    Raises:
        DataError: some pairs have none; those of all others are written.
    """
    # It would warn that a function is compiled for each size of frames, which is intended.
    tf.get_logger().setLevel("ERROR")
    source = open_source(config.frames)
    network = load_network(
        run=config.run,
        weights=config.weights,
        model=config.model,
        precision=config.precision.policy,
    )
    out = Path(config.out or f"outputs/predict/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    settings = {
        "model": config.model.name if config.model else None,
        "precision": network.model.dtype_policy.name,
        "resize": config.resize,
        "scale": config.scale,
        "occlusion": [config.occlusion_relative, config.occlusion_absolute],
        "max_speed": config.max_speed,
        "legend": config.legend,
    }
    made_with = {"weights": network.info.record(), "settings": settings}
    outputs = Outputs(config, out, made_with)
    outputs.check_names(source)
    estimator = Estimator(
        network.model,
        size=(config.resize[0], config.resize[1]) if config.resize else None,
        scale=config.scale,
        batch_size=config.batch_size,
        memory_limit=config.memory_limit and config.memory_limit * GIGABYTE,
        xla=config.xla,
    )
    storage.make_folder(out)
    with Videos(config, out, source, made_with) as videos:
        prediction = _Prediction(config, source, estimator, outputs, videos)
        prediction.run()
        videos.finish(gaps=bool(prediction.failures), max_speed=prediction.max_speed)
    prediction.report()


class _Prediction:
    """The pairs of a source on their way to results."""

    def __init__(
        self,
        config: PredictConfig,
        source: Source,
        estimator: Estimator,
        outputs: Outputs,
        videos: Videos,
    ) -> None:
        self.config = config
        self.source = source
        self.estimator = estimator
        self.outputs = outputs
        self.videos = videos
        self.failures: list[str] = []
        self.written = 0
        self.found = 0
        self.max_speed = config.max_speed
        self._lists_files = source.total is not None and source.total <= LISTED
        self._draws = not SCALED.isdisjoint(config.kinds)

    def run(self) -> None:
        """Takes every pair of the source, in order; lists those that failed, also if stopped."""
        bar = tqdm(total=self.source.total, desc="predict", unit="pair", leave=False, disable=None)
        try:
            with bar:
                for batch in self._batches(self._missing(bar)):
                    self._take(batch)
                    bar.update(len(batch))
        finally:
            for failure in self.failures:
                print(f"failed: {failure}", file=sys.stderr)

    def report(self) -> None:
        """Prints what was done in one line; a failure of any pair is one of the command."""
        out = self.outputs.out
        videos = ", ".join(map(str, self.videos.paths))
        per_pair = bool(self.outputs.kinds) or not videos
        found = f", {self.found} existed" if self.found else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        written = f"{self.written} pair{'s' * (self.written != 1)} written{found}{failed}"
        more = f"; {videos}" if per_pair and videos else ""
        print(f"{out if per_pair else videos}: {written}{more}")
        if self.failures:
            raise DataError(
                f"{len(self.failures)} failed, as listed; all others are written in {out}"
            )

    def _missing(self, bar: tqdm) -> Iterator[Pair]:
        """The pairs whose results do not exist; all of them, if a video is to be made."""
        pairs = self.source.pairs()
        while True:
            try:
                pair = next(pairs, None)
            except OF_ONE_PAIR as error:  # the rest of a damaged video cannot be read
                self._fail(self.source.title, error)
                return
            if pair is None:
                return
            if self.videos.wanted or self.config.overwrite or not self.outputs.exist(pair):
                yield pair
            else:
                self.found += 1
                bar.update()

    def _batches(self, pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
        """Consecutive pairs of one size; the last batch may be smaller."""
        batch: list[Pair] = []
        for pair in pairs:
            try:
                size = pair.size
            except OF_ONE_PAIR as error:
                if batch:
                    yield batch
                batch = []
                self._fail(str(pair), error)
                self.videos.add_gap()
                yield []
                continue
            if batch and batch[0].size != size:
                yield batch
                batch = []
            batch.append(pair)
            if len(batch) == self.config.batch_size:
                yield batch  # at once: the next pair of a stream may come late
                batch = []
        if batch:
            yield batch

    def _take(self, batch: list[Pair]) -> None:
        """Estimates and writes what does not exist, and adds the whole batch to the videos."""
        stored = {}
        if self.videos.wanted and not self.config.overwrite:
            flows = ((pair.name, self.outputs.stored_flow(pair)) for pair in batch)
            stored = {name: flow for name, flow in flows if flow is not None}
        missing = [pair for pair in batch if pair.name not in stored]
        try:
            estimates = self._estimate(missing) if missing else {}
        except OF_ONE_PAIR as error:
            for pair in missing:
                self._fail(str(pair), error)
            estimates = {}
        for pair in batch:
            flow = stored.get(pair.name)
            if pair.name in estimates:
                flow = estimates[pair.name][0].flow
                self._write(pair, estimates[pair.name])
            elif flow is not None:
                self.found += 1
            self._add_to_videos(pair, flow)

    def _add_to_videos(self, pair: Pair, flow: np.ndarray | None) -> None:
        if flow is None:
            self.videos.add_gap()
        elif self.videos.wanted:
            backward = self.outputs.directions[0] is Direction.backward
            frame = pair.frame2 if backward else pair.frame1
            self.videos.add(frame.pixels, flow, max_speed=self._full_speed(flow))

    def _estimate(self, pairs: Sequence[Pair]) -> dict[str, list[Estimated]]:
        """The flows of each pair by its name, in the requested directions."""
        frames1 = [pair.frame1.pixels for pair in pairs]
        frames2 = [pair.frame2.pixels for pair in pairs]
        asked = set(self.outputs.directions)
        forward = backward = None
        if Direction.forward in asked or self.outputs.compares:
            forward = self.estimator(frames1, frames2)
        if Direction.backward in asked or self.outputs.compares:
            backward = self.estimator(frames2, frames1)
        account = self.estimator.account(*pairs[0].size)
        results: dict[str, list[Estimated]] = {pair.name: [] for pair in pairs}
        for direction in self.outputs.directions:
            swap = direction is Direction.backward
            flows, opposites = (backward, forward) if swap else (forward, backward)
            for number, pair in enumerate(pairs):
                opposite = opposites[number] if opposites else None
                estimated = Estimated(pair, direction, (flows or [])[number], opposite, account)
                results[pair.name].append(estimated)
        return results

    def _write(self, pair: Pair, estimates: Sequence[Estimated]) -> None:
        paths: list[Path] = []
        try:
            for estimated in estimates:
                speed = self._full_speed(estimated.flow) if self._draws else None
                paths += self.outputs.write(estimated, max_speed=speed)
        except OF_ONE_PAIR as error:
            self._fail(str(pair), error)
            return
        self.written += 1
        if paths and self._lists_files:
            tqdm.write(f"{pair}: {', '.join(map(str, paths))}")

    def _full_speed(self, flow: np.ndarray) -> float:
        """The speed of full colour, the same for all pairs.

        Existing results of the first pair decide, or a first pass; for a stream, its first flow.
        """
        if self.max_speed is None and not self.config.overwrite:
            first = next(iter(self.source.sample(1)), None)
            self.max_speed = self.outputs.max_speed(first) if first else None
        if self.max_speed is None:
            self.max_speed = find_max_speed(self.source, self.estimator.model, [flow])
        return self.max_speed

    def _fail(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what}: {' '.join(str(error).split())}")
