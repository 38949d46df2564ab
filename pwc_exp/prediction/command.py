"""The command: every pair of a source through the network, and what is made of its flow."""

import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp import storage
from pwc_exp.config.commands import Direction, PredictConfig
from pwc_exp.errors import DataError, UserError
from pwc_exp.prediction.estimation import GIGABYTE, Estimator
from pwc_exp.prediction.films import Films
from pwc_exp.prediction.results import SCALED, Estimated, Results
from pwc_exp.prediction.sources import OF_ONE_PAIR, Pair, Source, open_source
from pwc_exp.prediction.speeds import first_pass
from pwc_exp.weights import load_network

FILM_RATE = 24  # pictures per second of a video that is made of images


class Failure(NamedTuple):
    """What has no result, and why."""

    what: str
    why: str


def predict(config: PredictConfig) -> None:
    """Writes the results of every pair.

    Raises:
        DataError: some pairs have none; those of all others are written.
    """
    # It would warn that a function is compiled for each size of frames, which is meant.
    tf.get_logger().setLevel("ERROR")
    source = open_source(config.frames)
    network = load_network(
        run=config.run, weights=config.weights, model=config.model, precision=config.precision
    )
    out = Path(config.out or f"outputs/predict/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    weights = network.info.record()
    settings = {
        "model": config.model.name if config.model else None,
        "precision": network.model.dtype_policy.name,
        "resize": config.resize,
        "scale": config.scale,
        "occlusion": [config.occlusion_relative, config.occlusion_absolute],
        "max_speed": config.max_speed,
        "legend": config.legend,
    }
    results = Results(
        out,
        config.outputs,
        direction=config.direction,
        relative=config.occlusion_relative,
        absolute=config.occlusion_absolute,
        wheel=config.legend,
        settings=settings,
        weights=weights,
    )
    results.check_names(source)
    estimator = Estimator(
        network.model,
        size=(config.resize[0], config.resize[1]) if config.resize else None,
        scale=config.scale,
        batch_size=config.batch_size,
        memory_limit=config.memory_limit and config.memory_limit * GIGABYTE,
        xla=config.xla,
    )
    storage.make_folder(out)
    rate = Fraction(config.frame_rate).limit_denominator(1001) if config.frame_rate else None
    with Films(
        out,
        config.outputs,
        title=source.title,
        frame_rate=rate or source.frame_rate or Fraction(FILM_RATE),
        wheel=config.legend,
        replaced=source.inputs,
        origin={
            "weights": weights,
            "settings": {**settings, "direction": config.direction.value},
            "frames": [{"title": source.title, "identity": source.identity}],
        },
        overwrite=config.overwrite,
    ) as films:
        work = _Work(config, source, estimator, results, films)
        work.run()
        films.finish(gaps=bool(work.failures), max_speed=work.max_speed)
    work.report()


class _Work:
    """What is being done, and what has become of it."""

    def __init__(
        self,
        config: PredictConfig,
        source: Source,
        estimator: Estimator,
        results: Results,
        films: Films,
    ) -> None:
        self.config = config
        self.source = source
        self.estimator = estimator
        self.results = results
        self.films = films
        self.failures: list[Failure] = []
        self.written = 0
        self.found = 0
        self.max_speed = config.max_speed

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
                print(f"failed: {failure.what}: {failure.why}", file=sys.stderr)

    def report(self) -> None:
        """Says what was done; a failure of any pair is one of the command."""
        out = self.results.out
        for path in self.films.paths:
            print(f"video: {path}")
        found = f", {self.found} were there" if self.found else ""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        print(f"{out}: {self.written} pairs written{found}{failed}")
        if self.failures:
            raise DataError(
                f"{len(self.failures)} failed, as listed; all others are written in {out}"
            )

    def _missing(self, bar: tqdm) -> Iterator[Pair]:
        """The pairs whose results are not there; all of them, if a video is to be made."""
        for pair in self._arriving():
            if self.films.wanted or self.config.overwrite or not self.results.done(pair):
                yield pair
            else:
                self.found += 1
                bar.update()

    def _arriving(self) -> Iterator[Pair]:
        pairs = self.source.pairs()
        while True:
            try:
                pair = next(pairs, None)
            except OF_ONE_PAIR as error:  # the rest of a damaged video cannot be had
                self._fail(self.source.title, error)
                return
            if pair is None:
                return
            yield pair

    def _batches(self, pairs: Iterator[Pair]) -> Iterator[list[Pair]]:
        """Consecutive pairs of one size; the last ones are fewer."""
        batch: list[Pair] = []
        for pair in pairs:
            try:
                size = pair.size
            except OF_ONE_PAIR as error:
                if batch:
                    yield batch
                batch = []
                self._fail(str(pair), error)
                self.films.add_gap()
                yield []
                continue
            if batch and (len(batch) == self.config.batch_size or batch[0].size != size):
                yield batch
                batch = []
            batch.append(pair)
            if len(batch) == self.config.batch_size:
                yield batch  # at once: the next pair of a stream may come late
                batch = []
        if batch:
            yield batch

    def _take(self, batch: list[Pair]) -> None:
        """Estimates what is not there, writes it, and gives all of the batch to the videos."""
        stored = {pair.name: flow for pair in batch if (flow := self._stored(pair)) is not None}
        missing = [pair for pair in batch if pair.name not in stored]
        try:
            estimates = self._estimate(missing)
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
            self._film(pair, flow)

    def _stored(self, pair: Pair) -> np.ndarray | None:
        if self.config.overwrite or not self.films.wanted:
            return None
        return self.results.stored_flow(pair)

    def _estimate(self, pairs: Sequence[Pair]) -> dict[str, list[Estimated]]:
        """The flows of each pair by its name, in the directions that are asked for."""
        if not pairs:
            return {}
        frames1 = [pair.frame1.pixels for pair in pairs]
        frames2 = [pair.frame2.pixels for pair in pairs]
        needed = set(self.results.directions)
        if self.results.compares:
            needed = {Direction.forward, Direction.backward}
        flows = {}
        if Direction.forward in needed:
            flows[Direction.forward] = self.estimator(frames1, frames2)
        if Direction.backward in needed:
            flows[Direction.backward] = self.estimator(frames2, frames1)
        account = self.estimator.account(*pairs[0].size)
        opposite = {
            Direction.forward: flows.get(Direction.backward),
            Direction.backward: flows.get(Direction.forward),
        }
        return {
            pair.name: [
                Estimated(
                    pair,
                    direction,
                    flows[direction][number],
                    back[number] if (back := opposite[direction]) else None,
                    account,
                )
                for direction in self.results.directions
            ]
            for number, pair in enumerate(pairs)
        }

    def _write(self, pair: Pair, estimates: Sequence[Estimated]) -> None:
        try:
            paths: list[Path] = []
            for estimated in estimates:
                speed = self._speed(estimated.flow) if self._draws else None
                paths += self.results.write(estimated, max_speed=speed)
        except UserError as error:
            if not isinstance(error, OF_ONE_PAIR):
                raise
            self._fail(str(pair), error)
            return
        self.written += 1
        if paths:
            tqdm.write(f"{pair}: {', '.join(map(str, paths))}")

    def _film(self, pair: Pair, flow: np.ndarray | None) -> None:
        if flow is None:
            self.films.add_gap()
        elif self.films.wanted:
            frame = pair.frame1
            if self.results.directions[0] is Direction.backward:
                frame = pair.frame2
            self.films.add(frame.pixels, flow, max_speed=self._speed(flow))

    @property
    def _draws(self) -> bool:
        return not SCALED.isdisjoint(self.config.outputs)

    def _speed(self, flow: np.ndarray) -> float:
        """The speed of full colour, the same for all pairs.

        Without a given one, that of a first pass; of a stream, that of its first flow.
        """
        if self.max_speed is None:
            known = None if self.config.overwrite else self._drawn_with()
            self.max_speed = known or first_pass(self.source, self.estimator.model, [flow])
        return self.max_speed

    def _drawn_with(self) -> float | None:
        """The speed of full colour of results that are there already: those of the first pair."""
        first = next(iter(self.source.sample(1)), None)
        return self.results.max_speed(first) if first else None

    def _fail(self, what: str, error: Exception) -> None:
        self.failures.append(Failure(what, " ".join(str(error).split())))
