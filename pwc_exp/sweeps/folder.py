"""sweep.json: the arguments of a sweep, and its children."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from pwc_exp import storage
from pwc_exp.config.schema import CONFIG_FILE, SWEEP_FILE, to_yaml
from pwc_exp.config.training import TrainConfig
from pwc_exp.errors import DataError, MissingInputError
from pwc_exp.stopping import STOP_FILE

LOCK_FILE = ".lock"  # held by the process that runs the sweep
PAGE, TABLE, PICTURES = "sweep.html", "sweep.md", "pictures"  # the summary
LOG = "output.log"  # in the folder of a child: what its process printed
_MAX_NAME = 60  # characters of a folder's name
_MAX_VALUE = 8  # characters of a number that is shown unrounded


class Child(NamedTuple):
    """A run of a sweep.

    folder: name of its folder, inside that of the sweep.
    name: its name in MLflow: the values that differ between children.
    values: what differs between children, in Hydra's grammar.
    overrides: all arguments of the run.
    """

    number: int
    folder: str
    name: str
    values: dict[str, str]
    overrides: list[str]


def make_child(number: int, values: Mapping[str, str], fixed: Sequence[str]) -> Child:
    """The child `number` with `values`; `fixed` are the arguments that all children share."""
    pairs = [f"{key.lstrip('+')}={rounded(value)}" for key, value in values.items()]
    # A folder name that needs no quotes in a shell, nor in Hydra's grammar.
    words = [re.sub(r"[^A-Za-z0-9.]+", "-", pair).strip("-") for pair in pairs]
    return Child(
        number=number,
        folder="_".join([str(number), *words])[:_MAX_NAME].rstrip("-_."),
        name=" ".join(pairs) or str(number),
        values=dict(values),
        overrides=[*fixed, *(f"{key}={value}" for key, value in values.items())],
    )


def rounded(value: str) -> str:
    """`value`, to four digits if it is a longer number."""
    try:
        return f"{float(value):.4g}" if len(value) > _MAX_VALUE else value
    except ValueError:
        return value


@dataclass(kw_only=True)
class SweepFolder:
    """The content of sweep.json.

    arguments: of the command line, sorted: the same arguments continue the sweep. None in files of
        earlier versions.
    definition: all arguments, those of a preset's `hydra.sweeper.params` included, by key.
    """

    path: Path
    arguments: list[str] | None
    definition: dict[str, str]
    children: list[Child] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the sweep in the folder `path`.

        Raises:
            MissingInputError: the folder is not that of a sweep.
            DataError: its file is damaged.
        """
        file = path / SWEEP_FILE
        try:
            values = json.loads(file.read_bytes())
            return cls(
                path=path.absolute(),
                arguments=values.get("arguments"),
                definition=values["definition"],
                children=[Child(**child) for child in values["children"]],
            )
        except FileNotFoundError:
            raise MissingInputError(f"{file}: no such file; it makes a folder a sweep") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{file}: not the file of a sweep; {error!r}") from error

    def add(self, children: Iterable[tuple[Child, TrainConfig | None]]) -> None:
        """Adds children, or replaces those of the same number, and writes their configurations.

        Raises:
            OutputError: the folder cannot be written.
        """
        added = list(children)
        by_number = {child.number: child for child in [*self.children, *(c for c, _ in added)]}
        self.children = [by_number[number] for number in sorted(by_number)]
        self.save()
        for child, config in added:
            file = self.run_dir(child) / CONFIG_FILE
            storage.make_folder(file.parent)
            if config is not None and not file.exists():
                storage.write_file(file, to_yaml(config).encode())

    def save(self) -> None:
        """Writes sweep.json.

        Raises:
            OutputError: it cannot be written.
        """
        storage.make_folder(self.path)
        content = {
            "arguments": self.arguments,
            "definition": self.definition,
            "children": [child._asdict() for child in self.children],
        }
        storage.write_file(self.path / SWEEP_FILE, (json.dumps(content, indent=1) + "\n").encode())

    @property
    def params(self) -> dict[str, str]:
        """The definition as the parameters of the sweep's run in MLflow."""
        return {f"sweep.{key}": value for key, value in self.definition.items()}

    def run_dir(self, child: Child) -> Path:
        """The folder of a child's run."""
        return self.path / child.folder

    def ask_to_stop(self, child: Child, reason: str) -> None:
        """Makes a child save and end after its present step. May be called repeatedly.

        Raises:
            OutputError: its folder cannot be written.
        """
        file = self.run_dir(child) / STOP_FILE
        if not file.exists():
            storage.write_file(file, reason.encode())


def sweeps_in(folder: Path) -> list[SweepFolder]:
    """The sweeps in `folder`, newest first, without damaged ones."""
    found = []
    for file in sorted(folder.glob(f"*/{SWEEP_FILE}"), reverse=True):
        with suppress(DataError):
            found.append(SweepFolder.load(file.parent))
    return found
