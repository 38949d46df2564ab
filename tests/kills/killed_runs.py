"""Runs that are killed and go on, and what must be true of them after each kill and at the end."""

import hashlib
import io
import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np
import PIL.Image

from pwc_exp import checkpoints
from pwc_exp.tracking import journal
from pwc_exp.tracking.record import Record

# Lets TensorBoard read event files without TensorFlow, whose import takes seconds.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))

SAVE_EVERY, EVAL_EVERY, LOG_EVERY = 3, 6, 2
SMALLEST = (
    *("model=tiny", "model.levels=2", "model.search_range=1", "model.feature_channels=[4,8]"),
    *("model.estimator_channels=[4]", "model.context_channels=[4]", "model.context_dilations=[1]"),
    *("loss.level_weights=[0.1]", "data=flyingchairs", "data.crop=[32,48]", "data.workers=1"),
    *("batch_size=2", "xla=false", f"save_every={SAVE_EVERY}"),
    *(f"eval_every={EVAL_EVERY}", f"log_every={LOG_EVERY}"),
)
PICTURED = ("val/00009", "val/again/00009")  # the same pair, as another data set
LONGEST = 600.0  # seconds that no process takes
Values = dict[tuple[str, int], float]


def write_frames(root: Path) -> None:
    """Pairs of noise in the layout of FlyingChairs; the last one validates."""
    height, width, count = 32, 48, 9
    chance = np.random.default_rng(0)
    (root / "data").mkdir(parents=True)
    for number in range(1, count + 1):
        for name in ("img1", "img2"):
            pixels = chance.integers(0, 256, (height, width, 3), dtype=np.uint8)
            head = f"P6\n{width} {height}\n255\n".encode()
            (root / f"data/{number:05d}_{name}.ppm").write_bytes(head + pixels.tobytes())
        flow = chance.normal(size=(height, width, 2)).astype(np.float32)
        size = np.array([width, height], np.int32)
        (root / f"data/{number:05d}_flow.flo").write_bytes(
            b"PIEH" + size.tobytes() + flow.tobytes()
        )
    (root / "FlyingChairs_train_val.txt").write_text("\n".join(["1"] * (count - 1) + ["2"]))


class Ended(NamedTuple):
    """A process that has ended. `code`: below 0, the signal that ended it."""

    code: int
    output: str
    errors: str
    mark: str  # the kill point it reached
    steps: list[int]  # it made, if it was forked


class Process:
    """A training process, of which this object has the only handle that can signal it."""

    def __init__(self, pid: int, folder: Path, code: "Iterator[int]") -> None:
        self._handle = os.pidfd_open(pid)
        self._folder = folder
        self._code = code

    def ends_within(self, seconds: float) -> bool:
        return bool(select.select([self._handle], [], [], seconds)[0])

    def send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            signal.pidfd_send_signal(self._handle, number)

    @property
    def output(self) -> str:
        return self._read("stdout")

    def wait(self) -> Ended:
        assert self.ends_within(LONGEST), f"{self.output}\n{self._read('stderr')}"
        os.close(self._handle)
        steps = [int(line) for line in self._read("steps").split()]
        stdout, stderr, mark = (self._read(name) for name in ("stdout", "stderr", "mark"))
        return Ended(next(self._code), stdout, stderr, mark, steps)

    def _read(self, name: str) -> str:
        file = self._folder / name
        return file.read_text() if file.exists() else ""


class Forks:
    """The process of killed.py; a context."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._server: subprocess.Popen[str]
        self._ready = False

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killed.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def start(
        self, folder: Path, arguments: Sequence[str], *, point: str | None = None, pause: float = 0
    ) -> Process:
        """Starts a process in `folder`, one at a time.

        Args:
            point: where it ends itself.
            pause: after each step, in seconds.
        """
        self._ready = self._ready or self._answer() == "ready"
        job = {"arguments": list(arguments), "point": point, "folder": str(folder), "pause": pause}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return Process(int(self._answer()), folder, (int(self._answer()) for _ in range(1)))

    def _answer(self) -> str:
        stdout: IO[str] | None = self._server.stdout
        assert stdout is not None
        return stdout.readline().strip()


class Counts(NamedTuple):
    """What a run went through."""

    redone: list[int]  # steps, after each kill
    phases: Counter[str]  # of the kills

    @property
    def kills(self) -> int:
        return sum(self.phases.values())


class Means(NamedTuple):
    """What all runs of a test share."""

    frames: Path  # the data set
    forks: Forks
    environment: dict[str, str]  # of processes that are started as users do


class Run:
    """A run in `root`, by processes one after the other. pictures: that each validation draws."""

    def __init__(self, root: Path, means: Means, *, steps: int, pictures: int) -> None:
        self.outputs = root / "outputs"
        self.steps = steps
        self.pictures = pictures
        self.counts = Counts([], Counter())
        self._root = root
        self._means = means
        self._folders = 0
        self._processes = 0
        self._before = 0  # the newest checkpoint, when the last process began
        self._made = 0  # the last step

    @property
    def folder(self) -> Path:
        return self.outputs / f"train/{self._folders}"

    @property
    def newest(self) -> int:
        """The step of its newest checkpoint, which must be intact, as all others."""
        found = checkpoints.list_checkpoints(self.folder / "checkpoints")
        return max((checkpoints.load(path).step for path in found), default=0)

    def start(
        self, point: str | None = None, *, pause: float = 0, as_users_do: bool = False
    ) -> Process:
        """Starts it or, once its configuration is there, goes on with it."""
        arguments = [f"resume={self.folder}"]
        if not (self.folder / "config.yaml").exists():
            self._folders += 1
            self._made = 0
            values = (
                f"steps={self.steps}",
                f"picture_samples={self.pictures}",
                f"data.root={self._means.frames}",
                f"validation=[{{name:flyingchairs,root:{self._means.frames},split:val,as:again}}]",
                f"outputs={self.outputs}",
            )
            arguments = [*SMALLEST, *values, f"hydra.run.dir={self.folder}"]
        self._before = self.newest
        self._processes += 1
        place = self._root / f"process{self._processes}"
        place.mkdir()
        if not as_users_do:
            return self._means.forks.start(place, arguments, point=point, pause=pause)
        with (place / "stdout").open("w") as stdout, (place / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "pwc_exp.train", *arguments],
                stdout=stdout,
                stderr=stderr,
                env=self._means.environment,
                cwd=place,
            )
        return Process(process.pid, place, (process.wait() for _ in range(1)))

    def follow(self, process: Process) -> Ended:
        """Waits for its end, and checks that it went on where it had to."""
        before, made = self._before, self._made
        ended = process.wait()
        assert "Traceback" not in ended.errors, ended.errors
        found = re.search(r"^from   step ([\d,]+)$", ended.output, re.MULTILINE)
        if re.search(r"^data   ", ended.output, re.MULTILINE):
            begun = int(found[1].replace(",", "")) if found else 0
            assert begun == before, f"went on from {begun}, with a checkpoint of {before}"
            assert 0 <= made - begun <= SAVE_EVERY
            self.counts.redone.append(made - begun)
            self._made = begun
        shown = re.findall(r"^step +([\d,]+)   loss", ended.output, re.MULTILINE)
        steps = ended.steps or [int(step.replace(",", "")) for step in shown]
        self._made = max([self._made, *steps])
        assert self.newest >= before
        self.counts.phases[self._phase(ended)] += ended.code == -signal.SIGKILL
        return ended

    @property
    def status(self) -> str:
        """What MLflow says of it."""
        with closing(sqlite3.connect(self.outputs / "mlflow/mlflow.db")) as database:
            ((status,),) = database.execute("SELECT status FROM runs").fetchall()
        return str(status)

    @property
    def is_finished(self) -> bool:
        record = self.folder / "run.json"
        return record.exists() and Record.load(self.folder).status == "FINISHED"

    def finish(self) -> None:
        """Lets it come to its end, as a user would, and checks that end."""
        ended = self.follow(self.start(as_users_do=True))
        assert (ended.code, ended.errors) == (0, "")

    def _phase(self, ended: Ended) -> str:
        shown = re.findall(r"^step +([\d,]+) ", ended.output, re.MULTILINE)
        if not re.search(r"^run ", ended.output, re.MULTILINE):
            return "imports and checks"
        if "nothing is left" in ended.output or self._made == self.steps:
            return "end"
        return "steps" if shown else "start"


class Result(NamedTuple):
    """What a run leaves that must not depend on kills."""

    state: str  # sha256 of the last
    kept: list[str]  # checkpoints at which it was validated
    number: int  # of all checkpoints
    points: Values


def result(run: Run) -> Result:
    folder = run.folder / "checkpoints"
    kept = checkpoints.list_checkpoints(folder)
    state = hashlib.sha256((kept[-1] / checkpoints.STATE_FILE).read_bytes()).hexdigest()
    validated = [path.name for path in kept if checkpoints.load(path).manifest.metrics]
    return Result(state, validated, len(kept), _lasting(_points(run)))


def check_end(run: Run, expected: Result) -> None:
    """Everything that is promised of a run that has ended."""
    left = result(run)
    assert left == expected, _unlike(left, expected)
    points = _points(run)
    record = Record.load(run.folder)
    assert (record.status, record.mismatches) == ("FINISHED", 0)
    hidden = [path for path in run.folder.rglob(".*") if path.name.startswith((".tmp-", ".del-"))]
    assert hidden == []
    assert set(_pictures(run.folder / "tensorboard", points)) == _due_pictures(run)
    _check_mlflow(run, points)


def _unlike(left: Result, expected: Result) -> str:
    points = dict(left.points.items() ^ expected.points.items())
    return f"{left[:3]}, not {expected[:3]}; points of one only: {points}"


def _check_mlflow(run: Run, points: Values) -> None:
    with closing(sqlite3.connect(run.outputs / "mlflow/mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        runs = database.execute("SELECT run_uuid, status, lifecycle_stage FROM runs").fetchall()
        assert [row[1:] for row in runs] == [("FINISHED", "active")]
        rows = database.execute("SELECT key, step, value FROM metrics").fetchall()
        tags = dict(database.execute("SELECT key, value FROM tags").fetchall())
    sent = [((key, step), value) for key, step, value in rows if not key.startswith("system/")]
    assert Counter(place for place, _ in sent) == Counter(list(points))
    assert dict(sent) == points
    assert "replay_mismatches" not in tags
    (store,) = (run.outputs / "mlflow").rglob(f"{runs[0][0]}/artifacts")
    assert {path.name for path in (store / "checkpoints").iterdir()} == {"best", "last"}
    last = store / "checkpoints/last" / checkpoints.STATE_FILE
    assert hashlib.sha256(last.read_bytes()).hexdigest() == result(run).state
    pictures: list[tuple[str, int]] = []
    for path in (store / "images").glob("*.png"):
        PIL.Image.open(path).load()
        name, step = re.findall(r"^(.*)\+step\+(\d+)\+", path.name)[0]
        pictures.append((name.replace("~", "/"), int(step)))
    assert Counter(pictures) == Counter(_due_pictures(run))


def _points(run: Run) -> Values:
    """All values of the journal, of which each (key, step) must be there once."""
    lines = journal.read(run.folder / journal.FILE)
    places = [((key, line.step), value) for line in lines for key, value in line.values.items()]
    values = dict(places)
    assert len(values) == len(places)
    return values


def _lasting(points: Values) -> Values:
    return {(key, step): value for (key, step), value in points.items() if "time/" not in key}


def _due_pictures(run: Run) -> set[tuple[str, int]]:
    steps = range(0, run.steps + 1, EVAL_EVERY) if run.pictures else ()
    return {(name, step) for name in PICTURED for step in steps}


def _pictures(folder: Path, points: Values) -> list[tuple[str, int]]:
    """The pictures of the event file, in which `points` must be, each once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    events.Reload()
    shown = [
        ((key, event.step), event.tensor_proto)
        for key in events.Tags()["tensors"]
        if key != SESSION_START_INFO_TAG  # the hyperparameters
        for event in events.Tensors(key)
    ]
    assert len(dict(shown)) == len(shown)
    scalars = {place: proto.float_val[0] for place, proto in shown if place in points}
    assert scalars == {place: float(np.float32(value)) for place, value in points.items()}
    for place, proto in shown:
        if place not in points:
            PIL.Image.open(io.BytesIO(proto.string_val[2])).load()
    return [place for place, _ in shown if place not in points]
