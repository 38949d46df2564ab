"""Reading files as bytes; whatever is wrong with a file is told with its path."""

import stat
from pathlib import Path

from pwc_exp.errors import DataError, MissingInputError


def read_bytes(path: Path, limit: int | None = None) -> bytes:
    """Reads a file, or its first `limit` bytes; refuses pipes and devices, which could block."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise DataError(f"Not a regular file: {path}.")
        with path.open("rb") as file:
            content = file.read(-1 if limit is None else limit)
    except FileNotFoundError:
        raise MissingInputError(f"No such file: {path}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None
    if not content:
        raise DataError(f"Empty file: {path}.")
    return content
