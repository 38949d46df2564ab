"""sweep.json: what a sweep is, and where its children lie."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pwc_exp import storage
from pwc_exp.config.schema import to_yaml
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.stopping import STOP_FILE
from pwc_exp.sweeps.children import Child

FILE = "sweep.json"
LOCK_FILE = ".lock"  # held while a process conducts the sweep
PAGE, TABLE, PICTURES = "sweep.html", "sweep.md", "pictures"  # what a sweep is summed up in
PLANS = "plans"  # folder with the configuration of each child, as it was checked


@dataclass(kw_only=True)
class SweepFolder:
    """The content of sweep.json.

    definition: what was asked for, {key: values in Hydra's grammar}.
    """

    path: Path
    definition: dict[str, str]
    children: list[Child] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the sweep in the folder `path`.

        Raises:
            MissingInputError: no sweep is there.
            DataError: its file is damaged.
        """
        file = path / FILE
        try:
            values = json.loads(file.read_bytes())
            children = [Child(**child) for child in values["children"]]
            return cls(path=path.absolute(), definition=values["definition"], children=children)
        except FileNotFoundError:
            raise MissingInputError(f"{file}: no such file; it makes a folder a sweep") from None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{file}: not the file of a sweep; {error!r}") from error

    def add(self, child: Child, config: TrainConfig | None) -> None:
        """Notes a child, with its plan if it has one; one of that number may be there already.

        Raises:
            OutputError: the folder cannot be written.
        """
        if config is not None:
            storage.make_folder(self.path / PLANS)
            storage.write_file(self.plan(child), to_yaml(config).encode())
        self.children = [other for other in self.children if other.number != child.number]
        self.children.append(child)
        self.save()

    def save(self) -> None:
        """Writes sweep.json.

        Raises:
            OutputError: it cannot be written.
        """
        storage.make_folder(self.path)
        content = {
            "definition": self.definition,
            "children": [child._asdict() for child in self.children],
        }
        storage.write_file(self.path / FILE, (json.dumps(content, indent=1) + "\n").encode())

    @property
    def params(self) -> dict[str, str]:
        """What MLflow shows as the definition."""
        return {f"sweep.{key}": value for key, value in self.definition.items()}

    def run_dir(self, child: Child) -> Path:
        """The folder of a child's run."""
        return self.path / child.folder

    def ask_to_stop(self, child: Child, reason: str) -> None:
        """Has a child save and end, or, before it has begun, after its first step. Once is enough.

        Raises:
            OutputError: its folder cannot be written.
        """
        file = self.run_dir(child) / STOP_FILE
        if not file.exists():
            storage.make_folder(file.parent)
            storage.write_file(file, reason.encode())

    def plan(self, child: Child) -> Path:
        """The configuration that a child is to have."""
        return self.path / PLANS / f"{child.folder}.yaml"

    def log(self, child: Child) -> Path:
        """What a child prints."""
        return self.path / PLANS / f"{child.folder}.log"


def planned(run_dir: Path) -> Path:
    """Where the configuration of the run in `run_dir` lies, if it is a child of a sweep."""
    return run_dir.parent / PLANS / f"{run_dir.name}.yaml"


def newest_alike(folder: Path, definition: Mapping[str, str]) -> SweepFolder | None:
    """The newest sweep among those in `folder` that is so defined."""
    for file in sorted(folder.glob(f"*/{FILE}"), reverse=True):
        found = SweepFolder.load(file.parent)
        if found.definition == definition:
            return found
    return None
