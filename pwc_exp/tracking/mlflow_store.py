"""A run in MLflow: on a tracking server, or in the SQLite file that all runs share.

The run is found by its `run_uid`, so it never exists twice. Sending anything a second time changes
nothing: points have the times of the journal, which are part of MLflow's key for them, and pictures
are sent only if MLflow lists none of that key and step. MLflow is imported in functions, as that
takes more than a second.
"""

import getpass
import hashlib
import json
import logging
import os
import posixpath
import re
import secrets
import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import PIL.Image

from pwc_exp import storage
from pwc_exp.errors import BusyError, MissingInputError, UserError
from pwc_exp.tracking import journal
from pwc_exp.tracking.journal import Picture, Point
from pwc_exp.tracking.record import UID, Record, sweep_of, without_password

if TYPE_CHECKING:
    import mlflow
    from mlflow.entities import Run

STATE_FILE = "mlflow.json"
# MLflow's own limits, https://mlflow.org/docs/latest/api_reference/rest-api.html#request-limits
_MAX_KEY = 250
_MAX_PARAM_VALUE = 6000
_MAX_TAG_VALUE = 8000
_MAX_DIGEST = 36
_AT_ONCE = 1000  # points in one call
_MAX_FAILURES = 3  # pictures and files that are refused, before the others wait
_LOAD_INTERVAL = 10.0  # seconds between samples of the machine's load, at least
_SHOWN = 200  # characters of an error message
_SQLITE = "sqlite:"
_PARENT = "mlflow.parentRunId"
_VIEW = "?workflowType=machine_learning"  # else MLflow shows a page for language models
_RESULTS = "results"  # key of a saved view of the runs list, in a tag of the experiment
_RESULTS_TAG = f"mlflow.sharedViewState.{_RESULTS}"
_IMAGES = "images"
_IMAGE = re.compile(rf"{_IMAGES}/(.+)\+step\+(\d+)\+timestamp\+[^/]*\.png")  # MLflow's own names


@dataclass(kw_only=True)
class SyncState:
    """The content of mlflow.json: which run in MLflow a run is, and how much of it is there.

    uri: without a password.
    acked: lines of metrics.jsonl that MLflow has.
    artifacts: digests of the artifacts that MLflow has, by their paths there.
    """

    uri: str
    experiment: str
    run_id: str
    experiment_id: str = ""
    acked: int = 0
    artifacts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, run_dir: Path) -> Self | None:
        """Reads mlflow.json; None if there is none, and the run has to be searched in MLflow."""
        try:
            return cls(**json.loads((run_dir / STATE_FILE).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, run_dir: Path) -> None:
        """Writes mlflow.json, after what it says has been done."""
        content = json.dumps(asdict(self), indent=2) + "\n"
        storage.write_file(run_dir / STATE_FILE, content.encode())


@dataclass(eq=False)
class MlflowStore:
    """Finds or creates the run of a folder in MLflow, and brings it up to date.

    Args:
        params: the flat configuration.
        artifacts: files and folders to copy, by their paths in MLflow; may change later.
        uri: MLflow's address, see `destination`.
        outputs: the folder of all runs.
        live: whether this process trains the run: the machine's load is sent too.

    sent: how many entries of each kind have been sent.
    """

    run_dir: Path
    _: KW_ONLY
    params: Mapping[str, object]
    artifacts: Mapping[str, Path]
    uri: str | None
    experiment: str
    outputs: Path
    live: bool = False

    def __post_init__(self) -> None:
        """Connects."""
        uri = destination(self.run_dir, self.uri, self.outputs)
        record = Record.load(self.run_dir)
        self.sent: Counter[str] = Counter()
        self._client, experiment_id = connect(uri, self.experiment, self.outputs)
        run = self._find_or_create(experiment_id, record, without_password(uri))
        self._run_id = run.info.run_id
        self._status = run.info.status
        self._tags = dict(run.data.tags)
        self._datasets: list[Any] = []
        self._point_reader = journal.point_reader(self.run_dir)
        self._points: list[Point] = []  # to be sent
        self._read = 0  # lines of the journal
        self._picture_reader = journal.picture_reader(self.run_dir)
        self._pictures: list[Picture] = []  # to be sent
        paths = [file.path for file in self._client.list_artifacts(self._run_id, _IMAGES)]
        names = [name for name in map(_IMAGE.fullmatch, paths) if name]
        self._sent_pictures = {(name[1].replace("~", "/"), int(name[2])) for name in names}
        self._load = _LoadMonitor() if self.live else None
        sweep = sweep_of(self.run_dir)
        parent = self._search(experiment_id, sweep.uid) if sweep else None
        self._parent = {_PARENT: parent.info.run_id} if parent else {}
        self._send_tags(record)
        self._send_params(run)

    def sync(self, status: str | None, at: int | None = None) -> None:
        """Sends what MLflow lacks of what the run's folder holds.

        Args:
            status: FINISHED, FAILED or KILLED; None while it runs.
            at: when it ended, in milliseconds since 1970; None: now.
        """
        record = Record.load(self.run_dir)
        self._send_points()
        self._send_tags(record)
        self._pictures += self._picture_reader.read()
        # A copy, as the thread that trains may add some; a missing one has been removed since.
        files = [(place, path) for place, path in list(self.artifacts.items()) if path.exists()]
        jobs: list[Callable[[], None]] = [
            *(partial(self._send_dataset, dataset) for dataset in record.datasets),
            *(partial(self._send_picture, picture) for picture in list(self._pictures)),
            *(partial(self._send_artifact, place, path) for place, path in files),
        ]
        failures: list[Exception] = []
        for job in jobs:  # one that MLflow refuses does not hold up the others
            try:
                job()
            except Exception as error:
                failures.append(error)
                if len(failures) == _MAX_FAILURES:
                    break
        self._set_status(status or "RUNNING", at)
        if failures:
            raise failures[0]

    def _find_or_create(self, experiment_id: str, record: Record, uri: str) -> "Run":
        """The run of mlflow.json or, if a process died before writing that, of `run_uid`."""
        state = SyncState.load(self.run_dir)
        if state is not None and (state.uri, state.experiment) != (uri, self.experiment):
            state = None
        run = self._get(state.run_id) if state else None
        run = run or self._search(experiment_id, record.uid) or self._create(experiment_id, record)
        if state is None or state.run_id != run.info.run_id:
            state = SyncState(uri=uri, experiment=self.experiment, run_id=run.info.run_id)
        if state.experiment_id != experiment_id:
            state.experiment_id = experiment_id
            state.save(self.run_dir)
        self._state = state
        return run

    def _get(self, run_id: str) -> "Run | None":
        """None if somebody has deleted it."""
        from mlflow.exceptions import MlflowException

        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _search(self, experiment_id: str, uid: str) -> "Run | None":
        found = self._client.search_runs(
            [experiment_id],
            filter_string=f"tags.{UID} = '{uid}'",
            order_by=["attributes.start_time"],
            max_results=1,
        )
        return next(iter(found), None)

    def _create(self, experiment_id: str, record: Record) -> "Run":
        own = {"mlflow.source.type": "LOCAL", "mlflow.source.name": record.about["program"]}
        if "commit" in record.about:
            own["mlflow.source.git.commit"] = record.about["commit"]
        with suppress(OSError, KeyError):  # a user without a name, as in some containers
            own["mlflow.user"] = getpass.getuser()
        tags = own | clean_tags({UID: record.uid})
        return self._client.create_run(
            experiment_id, start_time=record.started_at, tags=tags, run_name=record.name
        )

    def _send_params(self, run: "Run") -> None:
        """Sends those that MLflow lacks: params never change there."""
        from mlflow.entities import Param

        new = [
            Param(_key(key), without_password(str(value))[:_MAX_PARAM_VALUE])
            for key, value in self.params.items()
            if _key(key) not in run.data.params
        ]
        if new:
            self._client.log_batch(self._run_id, params=new)
        self.sent["params"] += len(new)

    def _send_tags(self, record: Record) -> None:
        from mlflow.entities import RunTag

        tags = clean_tags(record.tags | self._parent)
        new = {key: value for key, value in tags.items() if self._tags.get(key) != value}
        if new:
            pairs = [RunTag(key, value) for key, value in new.items()]
            self._client.log_batch(self._run_id, tags=pairs)
        self._tags |= new
        self.sent["tags"] += len(new)

    def _send_points(self) -> None:
        points = self._point_reader.read()
        self._points += points[max(0, self._state.acked - self._read) :]
        self._read += len(points)
        if self._points:
            # First to the disk: if MLflow had a point that a power cut took from the journal, the
            # point would be computed again and stored with another time.
            storage.sync_file(self.run_dir / journal.FILE)
        while batch := self._points[:_AT_ONCE]:
            self._send_metrics(batch)
            self._state.acked += len(batch)
            self._state.save(self.run_dir)
            self.sent["points"] += len(batch)
            del self._points[: len(batch)]

    def _send_metrics(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        load = [self._load.sample(points[-1].step)] if self._load else []
        metrics = [
            Metric(_key(key), value, point.time, point.step)
            for point in (*points, *load)
            for key, value in point.values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def _send_dataset(self, dataset: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if dataset in self._datasets:
            return
        entity = Dataset(
            name=dataset["name"],
            digest=dataset["digest"][:_MAX_DIGEST],
            source_type="local",
            source=json.dumps({"uri": dataset["name"]}),
            profile=json.dumps(dataset["sizes"]),
        )
        tag = InputTag("mlflow.data.context", dataset["context"])
        self._client.log_inputs(self._run_id, [DatasetInput(entity, [tag])])
        self._datasets.append(dataset)

    def _send_picture(self, picture: Picture) -> None:
        place = (_key(picture.key), picture.step)
        file = self.run_dir / picture.file
        if place not in self._sent_pictures and file.exists():
            with PIL.Image.open(file) as image:
                pixels = np.asarray(image)
            self._client.log_image(
                self._run_id, pixels, key=place[0], step=picture.step, timestamp=picture.time
            )
            self._sent_pictures.add(place)
            self.sent["pictures"] += 1
        self._pictures.remove(picture)

    def _send_artifact(self, place: str, path: Path) -> None:
        content = _digest(path)
        if self._state.artifacts.get(place) == content:
            return
        if path.is_dir():
            self._client.log_artifacts(self._run_id, str(path), place)
        else:
            self._client.log_artifact(self._run_id, str(path), posixpath.dirname(place) or None)
        self._state.artifacts[place] = content
        self._state.save(self.run_dir)
        self.sent["artifacts"] += 1

    def _set_status(self, status: str, at: int | None) -> None:
        if status == self._status:
            return
        if status == "RUNNING":
            self._client.update_run(self._run_id, status)
        else:
            self._client.set_terminated(self._run_id, status, at)
            self.sent["status"] += 1
        self._status = status


class _LoadMonitor:
    """Load of processors, memory and, with nvidia-ml-py installed, GPUs, under MLflow's names."""

    def __init__(self) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

        self._monitors: list[Any] = [CPUMonitor()]
        with suppress(ImportError, RuntimeError):  # no nvidia-ml-py, no driver
            self._monitors.append(GPUMonitor())
        self._next = time.monotonic()

    def sample(self, step: int) -> Point:
        """Current values, for `step`; none if the last ones are younger than the interval."""
        values: dict[str, float] = {}
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LOAD_INTERVAL
            for monitor in self._monitors:
                monitor.collect_metrics()
                values |= monitor.aggregate_metrics()
                monitor.clear_metrics()
        now = time.time_ns() // 1_000_000
        return Point(step, now, {f"system/{name}": value for name, value in values.items()})


def store_folder(outputs: Path) -> Path:
    """Where the runs of `outputs` are tracked by default."""
    return outputs.absolute() / "mlflow"


def tracking_uri(uri: str | None, outputs: Path) -> str:
    """`uri`, else $MLFLOW_TRACKING_URI, else the SQLite file of `outputs`."""
    default = f"{_SQLITE}///{store_folder(outputs) / 'mlflow.db'}"
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or default


def destination(run_dir: Path, uri: str | None, outputs: Path) -> str:
    """The address of MLflow for a run: `uri`, else where the run is, else as for a new run."""
    usual = tracking_uri(uri, outputs)
    state = SyncState.load(run_dir)
    if uri or not state or state.uri == without_password(usual):
        return usual
    return usual if is_file(state.uri) and not _path(state.uri).exists() else state.uri


def where_to_look(
    run_dir: Path, *, uri: str | None, experiment: str, outputs: Path, mlflow: bool = True
) -> list[str]:
    """Lines that say where a run is shown: its page on a server, or the command that serves it."""
    lines = []
    state = SyncState.load(run_dir) if mlflow else None
    if state is not None and not is_file(state.uri):
        page = f"#/experiments/{state.experiment_id}/runs/{state.run_id}{_VIEW}"
        lines.append(f"MLflow       {state.uri.rstrip('/')}/{page}")
        uri = None  # the command asks $MLFLOW_TRACKING_URI, else it serves what is in outputs
    settings = {
        "outputs": str(outputs) if str(outputs) != "outputs" else None,
        "tracking.uri": without_password(uri) if uri and mlflow else None,
        "tracking.experiment": experiment if mlflow and experiment != "pwc_exp" else None,
    }
    given = [shlex.quote(f"{key}={value}") for key, value in settings.items() if value]
    return [*lines, " ".join(["charts       python -m pwc_exp.ui", *given])]


def runs_page(uri: str, experiment: str, outputs: Path) -> str:
    """The part of MLflow's address that shows the runs of an experiment, the results first."""
    with mlflow_errors(uri, "does not answer"):
        _, experiment_id = connect(uri, experiment, outputs)
    return f"#/experiments/{experiment_id}/runs{_VIEW}&viewStateShareKey={_RESULTS}"


def is_file(uri: str) -> bool:
    """Whether `uri` is an SQLite file, and not a server."""
    return uri.startswith(_SQLITE)


def connect(uri: str, experiment: str, outputs: Path) -> "tuple[mlflow.MlflowClient, str]":
    """A client and the id of the experiment, which is created if it does not exist."""
    mlflow = _import_mlflow()
    with _tables(_path(uri)) if is_file(uri) else nullcontext():
        client = mlflow.MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found and _RESULTS_TAG in found.tags:
            return client, found.experiment_id
        artifacts = (store_folder(outputs) / "artifacts" / experiment).as_uri()
        place = artifacts if is_file(uri) else None
        number = found.experiment_id if found else client.create_experiment(experiment, place)
        client.set_experiment_tag(number, _RESULTS_TAG, json.dumps(_results_view()))
        return client, number


def connect_to_existing(uri: str, experiment: str) -> "tuple[mlflow.MlflowClient, str]":
    """A client and the id of an existing experiment; creates nothing.

    Raises:
        MissingInputError: the SQLite file or the experiment does not exist.
    """
    if is_file(uri) and not _path(uri).exists():
        raise MissingInputError(f"{_path(uri)}: no such file; MLflow has no runs there")
    client = _import_mlflow().MlflowClient(uri)
    if found := client.get_experiment_by_name(experiment):
        return client, found.experiment_id
    known = ", ".join(sorted(each.name for each in client.search_experiments()))
    raise MissingInputError(
        f"tracking.experiment must be one of {known} at {without_password(uri)}. "
        f"Received: {experiment}"
    )


@contextmanager
def mlflow_errors(uri: str, failure: str) -> Iterator[None]:
    """Turns whatever MLflow, a database or a network raise in the block into one line.

    failure: what MLflow fails to do, such as "does not answer".

    Raises:
        BusyError: something was raised that is not a `UserError` already.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = without_password(uri)
        raise BusyError(f"MLflow at {place} {failure} ({shorten(error)})") from error


def shorten(error: Exception) -> str:
    """One line: the kind, how the message begins and how it ends, without passwords."""
    text = without_password(" ".join(str(error).split()))
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
    return f"{type(error).__name__}: {shown}"


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` within MLflow's limits."""
    return {_key(key): value[:_MAX_TAG_VALUE] for key, value in tags.items()}


def _import_mlflow() -> Any:
    """Imports MLflow, with defaults for its environment variables, and quiet."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Its 7 retries block for minutes, and one that creates a run may create two. We retry, and
        # look first.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow

    for logger in ("mlflow", "alembic", "urllib3.connectionpool"):  # failures are reported by us
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    return mlflow


@contextmanager
def _tables(file: Path) -> Iterator[None]:
    """Creates an SQLite file with MLflow's tables if it is missing, one process at a time.

    MLflow creates them one by one. Processes that do so at once break each other's, and what a
    killed process leaves is never completed. So they are created in a temporary file.
    """
    storage.make_folder(file.parent)
    with storage.lock(file.parent / ".lock", wait=True):
        if not file.exists():
            _make_tables(file)
        yield


def _make_tables(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for leftover in file.parent.glob(f".tmp-{file.name}.*"):
        leftover.unlink(missing_ok=True)
    # A new name each time: MLflow caches what it has opened by its name until the process ends.
    new = file.with_name(f".tmp-{file.name}.{secrets.token_hex(4)}")
    SqlAlchemyStore(f"{_SQLITE}///{new}", str(file.parent / "artifacts")).engine.dispose()
    storage.rename(new, file)


def _results_view() -> dict[str, Any]:
    """What MLflow's web interface saves with "Share view": columns, and sections of charts.

    Metrics are the first columns, and the charts of `val/` come before those of `time/`.
    """
    metrics = [f"metrics.`{key}`" for key in ("val/aepe", "val/fl_all", "val/outlier_3px")]
    others = [f"attributes.`{name}`" for name in ("Dataset", "Source")]
    names = ("val", "train", "time", "sweep", "Model metrics", "System metrics")
    sections = [
        {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False}
        for name in names
    ]
    return {
        "selectedColumns": [*metrics, *others],
        "columnOrder": ["attributes.`Run Name`", *metrics, "runDateAndNestInfo", *others],
        "isAccordionReordered": True,
        "compareRunCharts": [],
        "compareRunSections": [{**section, "isGenerated": True} for section in sections],
    }


def _path(uri: str) -> Path:
    return Path(re.sub(rf"^{_SQLITE}///", "", uri))


def _digest(path: Path) -> str:
    """Identifies contents: of files by name, size and time of writing."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(str(file.relative_to(path.parent)), file.stat()) for file in files]
    lines = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _key(key: str) -> str:
    """`key` as MLflow takes it: letters, digits and `_-./ ` only, and a path that leads down."""
    clean = posixpath.normpath(re.sub(r"[^A-Za-z0-9_\-./ ]", "_", key))
    return re.sub(r"^(\.*/)+|^\.+$", "_", clean)[:_MAX_KEY]
