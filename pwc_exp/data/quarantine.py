"""The list of samples that are left out: a line for each, its id, a tab and the reason."""

from collections.abc import Mapping
from pathlib import Path

from pwc_exp import storage
from pwc_exp.errors import DataError, MissingInputError

FILE = "quarantine.txt"  # in the folder of a run, or of a report


def read(path: Path) -> dict[str, str]:
    """Reads a list as id -> reason; of an id that is there twice, the first reason."""
    reasons: dict[str, str] = {}
    # Not splitlines(), which also splits at characters that an id may hold.
    for number, line in enumerate(_content(path).split("\n"), start=1):
        sample_id, tab, reason = line.partition("\t")
        if not sample_id.strip() and not reason.strip():
            continue
        if not (sample_id.strip() and tab and reason.strip()):
            raise DataError(
                f"Expected an id, a tab and a reason in line {number} of {path}. "
                f"Received: {line[:80]!r}."
            )
        reasons.setdefault(sample_id, reason.strip())
    return reasons


def write(path: Path, reasons: Mapping[str, str]) -> None:
    """Writes a list, id -> reason, in the place of what `path` holds."""
    lines = [f"{_line(sample_id, reason)}\n" for sample_id, reason in reasons.items()]
    storage.write_file(path, "".join(lines).encode())


def append(path: Path, sample_id: str, reason: str) -> bool:
    """Adds a sample; returns whether it is new. Makes the file if there is none.

    A process that is killed in here leaves the line whole or absent. Two processes that add the
    same sample at the same time may both write it: `read` takes it once.
    """
    line = _line(sample_id, reason)
    content = _content(path) if path.exists() else ""
    if sample_id in {known.partition("\t")[0] for known in content.split("\n")}:
        return False
    ends = not content or content.endswith("\n")  # an editor may leave the last line open
    storage.append_line(path, line if ends else f"\n{line}")
    return True


def _content(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise MissingInputError(f"No such file: {path}.") from None
    except UnicodeDecodeError as error:
        raise DataError(f"Not a list of samples: {path}. Expected UTF-8. {error}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None


def _line(sample_id: str, reason: str) -> str:
    if not sample_id.strip() or any(mark in sample_id for mark in "\t\r\n"):
        raise DataError(f"Expected an id without tabs and line ends. Received: {sample_id!r}.")
    return f"{sample_id}\t{' '.join(reason.split()) or 'no reason given'}"
