"""The command: every pair of a source goes through the network, and its results are written."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from pwc_exp.config.commands import PredictConfig
from pwc_exp.errors import DataError
from pwc_exp.inference import Estimator
from pwc_exp.models.pwcnet import PWCNet
from pwc_exp.prediction.outputs import SCALED, Outputs, Record, Video, videos_to_make
from pwc_exp.prediction.sources import OF_ONE_PAIR, Pair, Source, open_source
from pwc_exp.weights import Network, load_network

LISTED = 10  # pairs at most whose files are listed on the terminal
SAMPLED_PAIRS = 9  # from which the speed of full colour is found
SAMPLED_SIDE = 512  # px; larger frames are made smaller for that
FULL_COLOUR = 99  # percent of their pixels that are not faster than full colour
Flows = dict[str, dict[bool, np.ndarray]]  # by name of the pair, and whether it is backward flow


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
    prediction = _Prediction(config, source, network)
    try:
        prediction.run()
    finally:
        for video in prediction.videos:
            video.discard()
        for failure in prediction.failures:
            print(f"failed: {failure}", file=sys.stderr)
    prediction.report()


class _Prediction:
    """The pairs of a source on their way to results."""

    def __init__(self, config: PredictConfig, source: Source, network: Network) -> None:
        self.config = config
        self.source = source
        settings = {
            "model": config.model and config.model.name,
            "precision": network.model.dtype_policy.name,
            "resize": config.resize,
            "scale": config.scale,
            "occlusion": [config.occlusion_relative, config.occlusion_absolute],
            "max_speed": config.max_speed,
            "legend": config.legend,
        }
        out = Path(config.out or f"outputs/predict/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
        self.record = Record(out, network.info.record(), settings, overwrite=config.overwrite)
        self.outputs = Outputs(config, out, self.record)
        self.outputs.check_names(source)
        self.videos = videos_to_make(config, source, out, self.record)
        self.record.begin()
        self.estimator = Estimator(
            network.model,
            size=(config.resize[0], config.resize[1]) if config.resize else None,
            scale=config.scale,
            batch_size=config.batch_size,
            memory_limit=config.memory_limit,
            xla=config.xla,
        )
        self.failures: list[str] = []
        self.written = 0
        self.found = 0
        self.max_speed = config.max_speed  # of full colour, the same for all pairs
        self.videos_made: list[Video] = []
        self.first = self.outputs.backward[0]

    def run(self) -> None:
        """Takes every pair of the source, in order."""
        bar = tqdm(total=self.source.total, desc="predict", unit="pair", leave=False, disable=None)
        with bar:
            # Consecutive pairs of one size. The next pair of a stream may come late: it is not
            # waited for when a batch is full.
            for size, group in groupby(self._missing(bar), key=_size):
                while batch := list(islice(group, self.config.batch_size)):
                    self._take(batch, size)
                    bar.update(len(batch))
        self.videos_made = [video for video in self.videos if video.finish()]
        for video in self.videos_made if not self.failures else []:  # with gaps: made again
            self.record.add(video.path.name, [video.path], made_of=video.made_of)

    def report(self) -> None:
        """Prints what was done in one line; a failure of any pair is one of the command."""
        out, failed = self.outputs.out, len(self.failures)
        counts = [f"{self.written} pair{'s' * (self.written != 1)} written"]
        counts += [f"{self.found} existed"] if self.found else []
        counts += [f"{failed} failed"] if failed else []
        videos = ", ".join(str(video.path) for video in self.videos_made)
        if self.outputs.kinds or not videos:
            print(f"{out}: {', '.join(counts)}" + (f"; {videos}" if videos else ""))
        else:
            print(f"{videos}: {', '.join(counts)}")
        if failed:
            raise DataError(f"{failed} failed, as listed; all others are written in {out}")

    def _missing(self, bar: tqdm) -> Iterator[Pair]:
        """The pairs whose results do not exist; all of them, if a video is to be made."""
        try:
            for pair in self.source.pairs():
                existing = self.outputs.finished(pair)
                self.max_speed = self.max_speed or existing.get("max_speed")
                if self.videos or (self.outputs.kinds and not existing):
                    yield pair
                else:
                    self.found += 1
                    bar.update()
        except OF_ONE_PAIR as error:  # the rest of a damaged video cannot be read
            self._fail(self.source.title, error)

    def _take(self, batch: Sequence[Pair], size: tuple[int, int] | Exception) -> None:
        """Estimates and writes what does not exist, and adds the whole batch to the videos."""
        flows: Flows = {}
        missing = batch
        try:
            if isinstance(size, Exception):
                raise size
            flows = {
                pair.name: {self.first: flow}
                for pair in batch
                if self.videos and (flow := self.outputs.stored_flow(pair)) is not None
            }
            self.found += len(flows)
            missing = [pair for pair in batch if pair.name not in flows]
            flows |= self._estimate(missing)
        except OF_ONE_PAIR as error:
            for pair in missing:
                self._fail(str(pair), error)
        for pair in batch:
            own = flows.get(pair.name)
            if own and pair in missing:
                self._write(pair, own)
            for video in self.videos:
                if own:
                    frame, _ = pair.frames(backward=self.first)
                    flow = own[self.first]
                    video.add(frame.pixels, flow, max_speed=self._full_speed(flow))
                else:
                    video.add_gap()

    def _estimate(self, pairs: Sequence[Pair]) -> Flows:
        """The flows of pairs of one size."""
        flows: Flows = {pair.name: {} for pair in pairs}
        for backward in self.outputs.needed if pairs else []:
            frames = zip(*(pair.frames(backward=backward) for pair in pairs), strict=True)
            found = self.estimator(*([frame.pixels for frame in each] for each in frames))
            for pair, flow in zip(pairs, found, strict=True):
                flows[pair.name][backward] = flow
        return flows

    def _write(self, pair: Pair, flows: dict[bool, np.ndarray]) -> None:
        try:
            draws = not SCALED.isdisjoint(self.config.kinds)
            speed = self._full_speed(flows[self.first]) if draws else None
            network = self.estimator.account(*pair.size)
            paths = self.outputs.write(pair, flows, network=network, max_speed=speed)
        except OF_ONE_PAIR as error:
            self._fail(str(pair), error)
            return
        self.written += 1
        if paths and (self.source.total or math.inf) <= LISTED:
            tqdm.write(f"{pair}: {', '.join(map(str, paths))}")

    def _full_speed(self, flow: np.ndarray) -> float:
        """The speed of full colour: that of existing results, or from a few pairs, or `flow`."""
        if self.max_speed is None:
            self.max_speed = find_max_speed(self.source, self.estimator.model, flow)
        return self.max_speed

    def _fail(self, what: str, error: Exception) -> None:
        self.failures.append(f"{what}: {' '.join(str(error).split())}")


def _size(pair: Pair) -> tuple[int, int] | Exception:
    """What pairs of a batch share; a pair that cannot be read is alone, with its error."""
    try:
        return pair.size
    except OF_ONE_PAIR as error:
        return error


def find_max_speed(source: Source, model: PWCNet, flow: np.ndarray) -> float:
    """The speed, in px, that 99 % of the pixels of a few small pairs do not exceed; at least 1.

    It is rounded up to two digits, so that rounding in the network does not change the colours.
    flow: [H, W, 2], used where the source has no sample, as a stream.
    """
    flows = []
    estimators: dict[float, Estimator] = {}
    for pair in source.sample(SAMPLED_PAIRS):
        try:
            scale = min(1.0, SAMPLED_SIDE / max(pair.size))
            estimate = estimators.setdefault(scale, Estimator(model, scale=scale))
            flows += estimate([pair.frame1.pixels], [pair.frame2.pixels])
        except OF_ONE_PAIR:
            continue  # reported when its turn comes
    speeds = np.concatenate([np.hypot(*each.reshape(-1, 2).T) for each in flows or [flow]])
    finite = speeds[np.isfinite(speeds)]
    speed = max(1.0, float(np.percentile(finite, FULL_COLOUR))) if finite.size else 1.0
    digit = 10.0 ** (math.floor(math.log10(speed)) - 1)
    return round(math.ceil(speed / digit) * digit, 6)
