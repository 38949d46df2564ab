"""The named moments at which a training process is killed, and the hook that kills it there."""

import importlib
import itertools
import os
import re
import signal
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple


class When(StrEnum):
    """Where in a call the process ends."""

    before = "before"
    after = "after"
    half = "half"  # half of what the call writes is written


class Point(NamedTuple):
    """The `call`-th call of `target`, "module:name", whose texts and paths hold `match`."""

    name: str
    target: str
    when: When
    reason: str
    match: str = ""  # a regular expression
    call: int = 1


before, after, half = When
WRITE = "pathlib:Path.write_bytes"
RENAME = "pathlib:Path.rename"
SQL = "sqlalchemy.engine.default:DefaultDialect"
CLIENT = "mlflow.tracking.client:MlflowClient"
VALIDATION = "pwc_exp.training.validation"
STATE = "pwc_exp.training.state"
STORE = "pwc_exp.tracking.mlflow_store:MlflowStore"
EVENTS = "pwc_exp.tracking.tensorboard_store:EventFile"

# In a folder that is new, with an MLflow that has no tables yet.
START = (
    Point("lock_taken", "pwc_exp.storage:_take", after, "the folder is locked, and empty"),
    Point("config_half", WRITE, half, "half a configuration is no run", r"\.tmp-config\.yaml"),
    Point("config_written", "pwc_exp.training.loop:header", before, "a run with nothing else"),
    Point("record_half", WRITE, half, "a run without a uid", r"\.tmp-run\.json"),
    Point("record_written", "pwc_exp.tracking.record:Record.save", after, "only folder knows uid"),
    Point("tables_half", f"{SQL}.do_execute", after, "a database half made", "CREATE TABLE", 8),
    Point("tables_made", "mlflow.store.db.utils:_initialize_tables", after, "no experiment yet"),
    Point("experiment_made", f"{CLIENT}.create_experiment", after, "an experiment, no run"),
    Point("create_before", f"{CLIENT}.create_run", before, "MLflow has not heard of the run"),
    Point("create_after", f"{CLIENT}.create_run", after, "MLflow has a run nobody knows"),
    Point("ids_half", WRITE, half, "the same, with half an mlflow.json", r"\.tmp-mlflow\.json"),
    Point("params_before", f"{CLIENT}.log_batch", before, "a run without its parameters"),
    Point("events_made", f"{EVENTS}._make", after, "an event file, no tensorboard.json"),
    Point("first_evaluation", f"{VALIDATION}:errors_of", before, "no point yet", call=3),
    Point("events_state_half", WRITE, half, "half a tensorboard.json", r"\.tmp-tensorboard\.json"),
)
# Between two steps and in the writing of points and checkpoints.
LOOP = (
    Point("step_made", f"{STATE}:RunState.advance", after, "a step no file tells", call=2),
    Point("rename_after", RENAME, after, "its name is not synced", r"\.tmp-step"),
    Point("saved", "pwc_exp.checkpoints:save", after, "one too many, before retention"),
    Point("line_before", "pwc_exp.tracking.journal:append", before, "measured, not written"),
    Point("line_half", "pwc_exp.storage:append_line", half, "a torn line", r"metrics\.jsonl"),
    Point("line_after", "pwc_exp.tracking.journal:append", after, "a line ahead of the stores"),
    Point("sync_before", "pwc_exp.tracking.journal:Journal.flush", before, "lines not synced"),
    Point("sync_after", "pwc_exp.tracking.journal:Journal.flush", after, "lines, no checkpoint"),
    Point("checkpoint_begun", "pathlib:Path.mkdir", after, "an empty .tmp-", r"\.tmp-step"),
    Point("state_half", WRITE, half, "half the variables", r"state\.safetensors"),
    Point("state_written", WRITE, after, "no manifest", r"state\.safetensors"),
    Point("manifest_half", WRITE, half, "half a manifest", r"manifest\.json"),
    Point("manifest_written", WRITE, after, "complete, by a wrong name", r"manifest\.json"),
    Point("tree_before", "pwc_exp.storage:_fsync_tree", before, "nothing of it synced"),
    Point("rename_before", RENAME, before, "synced, by a wrong name", r"\.tmp-step"),
    Point("evaluating", f"{VALIDATION}:errors_of", before, "steps made, no values", call=3),
    Point("between_sets", f"{VALIDATION}:errors_of", before, "one of two evaluated", call=4),
    Point("png_half", WRITE, half, "half a picture", r"\.tmp-.*png"),
    Point("png_written", "pwc_exp.tracking.journal:write_picture", after, "a picture not listed"),
    Point("listed", "pwc_exp.tracking.journal:Journal.add_picture", after, "a picture, no values"),
    Point("drawn", f"{VALIDATION}:Validation._draw", after, "pictures, no values"),
    Point("validated", f"{VALIDATION}:Validation.run", after, "values, no checkpoint"),
    Point("remove_before", "pwc_exp.storage:remove_folder", before, "one too many stays"),
    Point("remove_renamed", RENAME, after, "a whole .del-", r"\.del-step"),
    Point(
        "remove_half", "os:unlink", after, "half a .del-", r"^(state\.safetensors|manifest\.json)$"
    ),
)
# What a process that goes on does, and the stores' threads.
STORES = (
    Point("metrics_before", f"{STORE}._send_metrics", before, "taken"),
    Point("loaded", f"{STATE}:RunState.resume", after, "loaded, no step made"),
    Point("repaired", "pwc_exp.tracking.journal:repair", after, "a torn line is cut, no more"),
    Point("resume_half", WRITE, half, "half a run.json beside a whole one", r"\.tmp-run\.json"),
    Point("commit_before", f"{SQL}.do_commit", before, "an open transaction of SQLite", call=3),
    Point("metrics_after", f"{STORE}._send_metrics", after, "no ack"),
    Point("acked", "pwc_exp.tracking.mlflow_store:SyncState.save", after, "mlflow.json agrees"),
    Point("picture_before", f"{CLIENT}.log_image", before, "only the folder has it"),
    Point("picture_half", f"{CLIENT}._log_artifact_helper", before, "no small copy", r"\.webp"),
    Point("picture_after", f"{CLIENT}.log_image", after, "a picture that must not come twice"),
    Point("event_before", "pwc_exp.storage:append", before, "a point only here", "tfevents"),
    Point("event_half", "pwc_exp.storage:append", half, "a torn record", "tfevents"),
    Point("event_after", "pwc_exp.storage:append", after, "a record not noted", "tfevents"),
    Point("events_noted", "pwc_exp.storage:write_file", after, "it agrees", r"tensorboard\.json"),
    Point("events_cut", "pwc_exp.storage:truncate", after, "what was not noted", "tfevents"),
)
# After the last step.
END = (
    Point("last_kept", "pwc_exp.storage:remove_folder", before, "one too many", r"step-0*42$"),
    Point("last_removed", RENAME, after, "retention after the last step", r"\.del-step-0*42\."),
    Point("stores_open", "pwc_exp.training.loop:send_checkpoints", before, "trained, not sent"),
    Point("upload_before", f"{CLIENT}.log_artifacts", before, "best checkpoint not in MLflow"),
    Point("upload_after", f"{CLIENT}.log_artifacts", after, "it is, and mlflow.json does not know"),
    Point("terminate_before", f"{CLIENT}.set_terminated", before, "all but the status"),
    Point("terminate_after", f"{CLIENT}.set_terminated", after, "MLflow says FINISHED"),
    Point("end_half", WRITE, half, "half a run.json that says so", r"\.tmp-run\.json", 5),
    Point("end_recorded", "pwc_exp.tracking.tracker:Tracker._record_end", after, "on record"),
    Point("finished_again", "pwc_exp.training.loop:_is_finished", after, "an ended run, resumed"),
)
BY_NAME = {point.name: point for point in (*START, *LOOP, *STORES, *END)}


def install(point: Point, mark: Path) -> None:
    """Has this process end itself at `point`, after its name has been written to `mark`."""
    module, _, path = point.target.partition(":")
    owner: Any = importlib.import_module(module)
    *owners, name = path.split(".")
    for part in owners:
        owner = getattr(owner, part)
    call = getattr(owner, name)
    numbers = itertools.count(1)

    def dying(*arguments: Any, **options: Any) -> Any:
        texts = [str(argument) for argument in arguments if isinstance(argument, str | Path)]
        meant = not point.match or any(re.search(point.match, text) for text in texts)
        if not meant or next(numbers) != point.call:
            return call(*arguments, **options)
        if point.when is half:
            _write_half(*arguments)
        if point.when is after:
            call(*arguments, **options)
        with open(mark, "w", encoding="utf-8") as file:  # not by Path, which may be hooked
            file.write(point.name)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


def _write_half(place: Path, content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    with place.open("ab") as file:
        file.write(data[: len(data) // 2])
