"""Where a study is kept: a journal in the sweep's folder, or a storage of Optuna's by its URL.

Optuna's own journal file is locked by a file beside it, which a killed process leaves behind; the
next one waits for 30 seconds. Here each operation is one line that is appended in one write: whole
or absent after a `kill -9`, without a lock, by one process or by several of one machine.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from pwc_exp import storage
from pwc_exp.errors import ConfigError


class _Journal(JournalFileBackend):
    """Lines of JSON, each on the disk when `append_logs` returns."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            _cut_torn_end(path)
        else:
            storage.write_file(path, b"")
        self._path = path
        super().__init__(str(path))

    def append_logs(self, logs: Sequence[dict[str, Any]]) -> None:
        """Appends the operations, all of them or none.

        Raises:
            OutputError: the journal cannot be written.
        """
        lines = (json.dumps(log, separators=(",", ":")) for log in logs)
        storage.append_line(self._path, "\n".join(lines))
        storage.sync_file(self._path)


def open_storage(place: Path | str) -> BaseStorage:
    """The journal at a path, or the storage of a URL.

    Raises:
        ConfigError: the URL leads nowhere.
        OutputError: the journal cannot be written.
    """
    if isinstance(place, Path):
        return JournalStorage(_Journal(place))
    try:
        return get_storage(place)
    except (OptunaError, SQLAlchemyError, ImportError, ValueError) as error:
        kind = place.partition("://")[0]  # the rest may hold a password
        reason = str(getattr(error, "orig", error)).partition("\n")[0]
        raise ConfigError(f"sweep.storage: cannot be opened, {reason}. Received: {kind}") from error


def _cut_torn_end(path: Path) -> None:
    """Removes what a machine that lost its power left half written at the end."""
    lines = path.read_bytes().split(b"\n")[:-1]
    while lines and not _is_operation(lines[-1]):
        lines.pop()
    size = sum(len(line) + 1 for line in lines)
    if size != path.stat().st_size:
        storage.truncate(path, size)


def _is_operation(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
