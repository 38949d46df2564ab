"""mlflow.json: which run in MLflow a run is, and how much of it is there."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from pwc_exp import storage
from pwc_exp.tracking.connection import is_gone, tracking_uri
from pwc_exp.tracking.provenance import without_password

FILE = "mlflow.json"


@dataclass(kw_only=True)
class Ledger:
    """The content of mlflow.json, written after what it tells of has been done.

    uri: without a password.
    acked: lines of the journal that are there.
    artifacts: where those lie that are there, and of which content.
    """

    uri: str
    experiment: str
    run_id: str
    acked: int = 0
    artifacts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, run_dir: Path) -> Self | None:
        """Reads the ledger; None if there is none, and the run has to be looked for in MLflow."""
        try:
            return cls(**json.loads((run_dir / FILE).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, run_dir: Path) -> None:
        """Writes mlflow.json.

        Raises:
            OutputError: it cannot be written.
        """
        storage.write_file(run_dir / FILE, (json.dumps(asdict(self), indent=2) + "\n").encode())


def destination(run_dir: Path, uri: str | None, outputs: Path) -> str:
    """The address of MLflow for a run: `uri`, else where the run is, else as for a new run."""
    usual = tracking_uri(uri, outputs)
    ledger = Ledger.load(run_dir)
    if uri or not ledger or is_gone(ledger.uri) or ledger.uri == without_password(usual):
        return usual
    return ledger.uri
