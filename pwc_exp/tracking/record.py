"""run.json: what produced a run, how it was started and resumed, how it ended; its sweep."""

import importlib.metadata
import json
import math
import os
import platform
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

import pwc_exp
from pwc_exp import storage
from pwc_exp.errors import DataError, MissingInputError

_LIBRARIES = ("tensorflow", "keras", "numpy", "hydra-core", "mlflow")


def describe_process() -> dict[str, str]:
    """Describes this process, so that what it does can be repeated."""
    return {
        "command": command_line(),
        "program": program_name(),
        **git_state(Path(pwc_exp.__file__).parent),
        "python": platform.python_version(),
        "platform": f"{platform.platform()}, {os.cpu_count()} processors",
        "pwc_exp": pwc_exp.__version__,
        **library_versions(),
    }


def command_line() -> str:
    """The command of this process, quoted for a shell, without passwords in addresses."""
    program, *arguments = sys.orig_argv or sys.argv
    return without_password(shlex.join([Path(program).name, *arguments]))


def program_name() -> str:
    """The module or script that runs, such as `pwc_exp.train`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).name


def git_state(folder: Path) -> dict[str, str]:
    """Commit of the checkout that tracks `folder`, and whether files differ from it.

    Empty if there is none, such as for a package in a virtual environment inside another project's
    checkout, which does not track it.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit = git("rev-parse", "HEAD")
        dirty = bool(git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": commit, "dirty": str(dirty).lower()}


def short_commit(about: Mapping[str, str]) -> str:
    """The commit in `describe_process`: 7 digits, and + if files differ from it; "" if unknown."""
    commit = about.get("commit", "")[:7]
    return f"{commit}+" if commit and about.get("dirty") == "true" else commit


def without_password(text: str) -> str:
    """Removes `name:password@` from addresses."""
    return re.sub(r"(\w://)[^/@\s]*@", r"\1", text)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that results depend on."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # such as a run on another Keras backend
    return versions


FILE = "run.json"
SWEEP_FILE = "sweep.json"
UID = "run_uid"  # the tag that identifies the run in MLflow


@dataclass(kw_only=True)
class Record:
    """The content of run.json, which is rewritten as a whole at each change.

    uid: random, and on the disk before any store knows of the run.
    about: what produced the run, and its tags.
    datasets: name, digest, sizes (samples of each split) and context (use) of each.
    resumed: for each resume, its step, what produced it, and the changed settings.
    ended: status and time; None while it runs, and after it was killed without notice.
    mismatches: values that differ when steps are computed again after a resume.
    """

    name: str
    uid: str
    started: str
    about: dict[str, str]
    datasets: list[dict[str, Any]] = field(default_factory=list)
    resumed: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, str] | None = None
    mismatches: int = 0

    @classmethod
    def new(cls, name: str, tags: Mapping[str, str]) -> Self:
        """The record of a run that this process starts."""
        about = {**describe_process(), **tags}
        return cls(name=name, uid=secrets.token_hex(16), started=_now(), about=about)

    @classmethod
    def load(cls, run_dir: Path) -> Self:
        """Reads the record of a run.

        Raises:
            MissingInputError: there is none.
            DataError: it is damaged.
        """
        path = run_dir / FILE
        try:
            values = json.loads(path.read_bytes())
            return cls(
                name=values.pop("name"),
                uid=values.pop(UID),
                started=values.pop("started"),
                datasets=values.pop("datasets"),
                resumed=values.pop("resumed"),
                ended=values.pop("ended"),
                mismatches=values.pop("replay_mismatches"),
                about=values,
            )
        except FileNotFoundError:
            raise MissingInputError(f"{path}: no such file; it is the record of a run") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise DataError(f"{path}: not the record of a run; {error!r}") from error

    def save(self, run_dir: Path) -> None:
        """Writes run.json."""
        values = {
            "name": self.name,
            UID: self.uid,
            "started": self.started,
            **self.about,
            "datasets": self.datasets,
            "resumed": self.resumed,
            "ended": self.ended,
            "replay_mismatches": self.mismatches,
        }
        storage.write_file(run_dir / FILE, (json.dumps(values, indent=2) + "\n").encode())

    def resume(self, step: int, changes: Mapping[str, tuple[object, object]]) -> None:
        """Notes that this process resumes at `step`. changes: old and new values of settings."""
        changed = {key: [str(old), str(new)] for key, (old, new) in changes.items()}
        now = {"step": step, "time": _now(), **describe_process(), "changes": changed}
        self.resumed.append(now)
        self.ended = None

    def end(self, status: str) -> None:
        """Notes that the run is FINISHED, FAILED or KILLED."""
        self.ended = {"status": status, "time": _now()}

    def add_dataset(
        self, name: str, *, digest: str, sizes: Mapping[str, int], context: str
    ) -> None:
        """Notes which data the run reads, replacing the note for the same context."""
        others = [other for other in self.datasets if other["context"] != context]
        new = {"name": name, "digest": digest, "sizes": dict(sizes), "context": context}
        self.datasets = [*others, new]

    @property
    def status(self) -> str:
        """How it ended; KILLED for a run without an end that no process runs any more."""
        return self.ended["status"] if self.ended else "KILLED"

    @property
    def starts(self) -> list[int]:
        """When it was started and resumed, in milliseconds since 1970."""
        return [self.started_at, *(_milliseconds(entry["time"]) for entry in self.resumed)]

    @property
    def started_at(self) -> int:
        """Milliseconds since 1970."""
        return _milliseconds(self.started)

    @property
    def ended_at(self) -> int | None:
        """Milliseconds since 1970; None if unknown."""
        return _milliseconds(self.ended["time"]) if self.ended else None

    @property
    def wall_seconds(self) -> float:
        """From the start to the end; NaN if it has no end."""
        return math.nan if self.ended_at is None else (self.ended_at - self.started_at) / 1000

    @property
    def tags(self) -> dict[str, str]:
        """The run's tags in a store."""
        tags = {UID: self.uid, **self.about}
        if self.resumed:
            tags["resumed_at"] = ", ".join(str(entry["step"]) for entry in self.resumed)
        for entry in self.resumed:
            for key, (old, new) in entry["changes"].items():
                tags[f"changed.{key}"] = f"{old} -> {new} at step {entry['step']}"
        if self.mismatches:
            tags["replay_mismatches"] = str(self.mismatches)
        return tags


class Sweep(NamedTuple):
    """A sweep, as one of its children sees it."""

    name: str  # such as quickstart/2026-11-26_21-00-00
    uid: str  # the `run_uid` of its own run in MLflow
    child: str  # name of the child: the values that distinguish it
    values: dict[str, str]  # these values, by key


def sweep_of(run_dir: Path) -> Sweep | None:
    """The sweep of the run in `run_dir`, known by sweep.json in the folder above; None if none.

    Damaged files there make the run no child: they are no reason not to train.
    """
    above = run_dir.absolute().parent
    try:
        children = json.loads((above / SWEEP_FILE).read_bytes())["children"]
        about = json.loads((above / FILE).read_bytes())
        child = next(entry for entry in children if entry["folder"] == run_dir.name)
        values = {str(key): str(value) for key, value in child["values"].items()}
        return Sweep(str(about["name"]), str(about[UID]), str(child["name"]), values)
    except (OSError, ValueError, TypeError, AttributeError, KeyError, StopIteration):
        return None


def place_name(folder: Path, outputs: Path) -> str:
    """Its path relative to `outputs`; of a folder elsewhere, the last two parts of its path."""
    moved = not folder.is_relative_to(outputs.absolute())
    return str(Path(*folder.parts[-2:]) if moved else folder.relative_to(outputs.absolute()))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
