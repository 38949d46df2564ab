"""A run in MLflow: on a tracking server, or in the SQLite file that all runs share.

The run is found by its `run_uid`, so it is never there twice. What is sent a second time changes
nothing: points have the times of the journal, which are part of MLflow's key for them.
"""

import getpass
import hashlib
import json
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pwc_exp import storage
from pwc_exp.tracking import journal
from pwc_exp.tracking.connection import connect
from pwc_exp.tracking.events import Artifact, Dataset, Item, Picture, Point, Tag, Text
from pwc_exp.tracking.ledger import Ledger, destination
from pwc_exp.tracking.parent import sweep_of
from pwc_exp.tracking.provenance import without_password
from pwc_exp.tracking.record import UID, Record

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pwc_exp.tracking.system import SystemMonitor

# MLflow's own limits, https://mlflow.org/docs/latest/api_reference/rest-api.html#request-limits
_MAX_KEY = 250
_MAX_PARAM_VALUE = 6000
_MAX_TAG_VALUE = 8000
_MAX_TAGS = 100  # in one call
_MAX_DIGEST = 36
_PARENT = "mlflow.parentRunId"
_VIEW = "?workflowType=machine_learning"  # else MLflow shows a page for language models
_IMAGES = "images"
_IMAGE = re.compile(rf"{_IMAGES}/(.+)\+step\+(\d+)\+timestamp\+[^/]*\.png")  # MLflow's own names


class MlflowRun:
    """Finds or creates a run and fills it; `run_dir`/mlflow.json says which it is.

    sent: how much has been, of each kind.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        record: Record,
        params: Mapping[str, object],
        uri: str | None,
        experiment: str,
        outputs: Path,
    ) -> None:
        uri = destination(run_dir, uri, outputs)
        self.sent: Counter[str] = Counter()
        self._run_dir = run_dir
        self._client, experiment_id = connect(uri, experiment, outputs)
        place = (without_password(uri), experiment)
        ledger = Ledger.load(run_dir)
        if ledger is not None and (ledger.uri, ledger.experiment) != place:
            ledger = None
        run = self._find(experiment_id, record.uid, ledger)
        self._pictures: set[tuple[str, int]] = set()
        if run is None:
            run = self._create(experiment_id, record)
        else:
            self._pictures = self._list_pictures(run.info.run_id)
        self._status = run.info.status
        if ledger is None or ledger.run_id != run.info.run_id:
            ledger = Ledger(uri=place[0], experiment=experiment, run_id=run.info.run_id)
            ledger.save(run_dir)
        self._ledger = ledger
        self._run_id = ledger.run_id
        self._taken = 0  # points of the journal that have been given to `send_points`
        self._monitor: SystemMonitor | None = None
        self._page = f"#/experiments/{experiment_id}/runs/{self._run_id}{_VIEW}"
        self._describe(run, {**record.tags, **self._parent(experiment_id)}, params)

    @property
    def address(self) -> str:
        """Where a person sees the run."""
        uri = self._ledger.uri.rstrip("/")
        if uri.startswith("http"):
            return f"{uri}/{self._page}"
        return f"mlflow ui --backend-store-uri {uri}, then /{self._page}"

    def go_on(self) -> None:
        """Shows the run as RUNNING, on this machine, whose load is sent with the points."""
        from pwc_exp.tracking.system import SystemMonitor  # imports MLflow

        self._monitor = SystemMonitor()
        if self._status != "RUNNING":
            self._client.update_run(self._run_id, "RUNNING")
            self._status = "RUNNING"

    def send_points(self, points: Sequence[Point]) -> None:
        """Stores the next points of the journal, but those that earlier processes have sent."""
        taken = self._taken + len(points)
        missing = points[max(0, self._ledger.acked - self._taken) :]
        if missing:
            # First to the disk: a point that MLflow has and the journal has lost, with the power,
            # would be computed again and stored with another time.
            storage.sync_file(self._run_dir / journal.FILE)
            self._send_metrics(missing)
            self._ledger.acked = taken
            self._ledger.save(self._run_dir)
            self.sent["points"] += len(missing)
        self._taken = taken

    def send_item(self, item: Item) -> None:
        """Stores an item."""
        match item:
            case Picture():
                self._send_picture(item)
            case Artifact() if item.path.exists():  # else it has been removed since
                self._send_artifact(item)
            case Text(name, text):
                self._client.log_text(self._run_id, text, name)
            case Tag(name, value):
                self._client.set_tag(self._run_id, _key(name), value[:_MAX_TAG_VALUE])
            case Dataset():
                self._send_dataset(item)

    def has_picture(self, step: int, key: str) -> bool:
        """Whether such a picture is there."""
        return (_key(key), step) in self._pictures

    def close(self, status: str, at: int | None = None) -> None:
        """Ends the run as FINISHED, FAILED or KILLED. `at`: milliseconds since 1970; None: now."""
        if status != self._status:
            self._client.set_terminated(self._run_id, status, at)
            self._status = status
            self.sent["status"] += 1

    def _find(self, experiment_id: str, uid: str, ledger: Ledger | None) -> "Run | None":
        """The run of the ledger or, if a process died before it could write that, of `uid`."""
        from mlflow.exceptions import MlflowException

        if ledger is not None:
            try:
                run = self._client.get_run(ledger.run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
            else:
                if run.info.lifecycle_stage == "active":
                    return run
        return self._first_of(experiment_id, uid)

    def _first_of(self, experiment_id: str, uid: str) -> "Run | None":
        found = self._client.search_runs(
            [experiment_id],
            filter_string=f"tags.{UID} = '{uid}'",
            order_by=["attributes.start_time"],
            max_results=1,
        )
        return next(iter(found), None)

    def _parent(self, experiment_id: str) -> dict[str, str]:
        """The tag by which MLflow shows the run below that of its sweep, once that is there."""
        sweep = sweep_of(self._run_dir)
        parent = self._first_of(experiment_id, sweep.uid) if sweep else None
        return {_PARENT: parent.info.run_id} if parent else {}

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

    def _describe(self, run: "Run", tags: Mapping[str, str], params: Mapping[str, object]) -> None:
        """Sends the tags that changed, and the params that are not there: those never change."""
        from mlflow.entities import Param, RunTag

        new_params = [
            Param(_key(key), without_password(str(value))[:_MAX_PARAM_VALUE])
            for key, value in params.items()
            if _key(key) not in run.data.params
        ]
        new_tags = [
            RunTag(key, value)
            for key, value in clean_tags(tags).items()
            if run.data.tags.get(key) != value
        ]
        if new_params:
            self._client.log_batch(self._run_id, params=new_params)
        for start in range(0, len(new_tags), _MAX_TAGS):
            self._client.log_batch(self._run_id, tags=new_tags[start : start + _MAX_TAGS])
        self.sent["params"] += len(new_params)
        self.sent["tags"] += len(new_tags)

    def _list_pictures(self, run_id: str) -> set[tuple[str, int]]:
        paths = [file.path for file in self._client.list_artifacts(run_id, _IMAGES)]
        names = [name for name in map(_IMAGE.fullmatch, paths) if name]
        return {(name[1].replace("~", "/"), int(name[2])) for name in names}

    def _send_metrics(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        load = [self._monitor.sample(points[-1].step)] if self._monitor else []
        metrics = [
            Metric(_key(key), value, point.time, point.step)
            for point in (*points, *load)
            for key, value in point.values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def _send_picture(self, picture: Picture) -> None:
        step, time, key, pixels = picture
        if not self.has_picture(step, key):
            self._client.log_image(self._run_id, pixels, key=_key(key), step=step, timestamp=time)
            self._pictures.add((_key(key), step))
            self.sent["pictures"] += 1

    def _send_artifact(self, artifact: Artifact) -> None:
        content = _digest(artifact.path)
        if self._ledger.artifacts.get(artifact.destination) == content:
            return
        if artifact.path.is_dir():
            self._client.log_artifacts(self._run_id, str(artifact.path), artifact.folder)
        else:
            self._client.log_artifact(self._run_id, str(artifact.path), artifact.folder or None)
        self._ledger.artifacts[artifact.destination] = content
        self._ledger.save(self._run_dir)
        self.sent["artifacts"] += 1

    def _send_dataset(self, dataset: Dataset) -> None:
        from mlflow.entities import Dataset as DatasetEntity
        from mlflow.entities import DatasetInput, InputTag

        entity = DatasetEntity(
            name=dataset.name,
            digest=dataset.digest[:_MAX_DIGEST],
            source_type="local",
            source=json.dumps({"uri": dataset.name}),
            profile=json.dumps(dict(dataset.sizes)),
        )
        tag = InputTag("mlflow.data.context", dataset.context)
        self._client.log_inputs(self._run_id, [DatasetInput(entity, [tag])])


def _digest(path: Path) -> str:
    """Tells contents apart: of files by name, size and time of writing."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(str(file.relative_to(path.parent)), file.stat()) for file in files]
    lines = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` as MLflow takes them."""
    return {_key(key): value[:_MAX_TAG_VALUE] for key, value in tags.items()}


def _key(key: str) -> str:
    """`key` as MLflow takes it: letters, digits and `_-./ ` only, and a path that leads down."""
    clean = posixpath.normpath(re.sub(r"[^A-Za-z0-9_\-./ ]", "_", key))
    return re.sub(r"^(\.*/)+|^\.+$", "_", clean)[:_MAX_KEY]
