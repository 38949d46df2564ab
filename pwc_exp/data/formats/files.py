"""Reading files as bytes; whatever is wrong with a file is told with its path."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from pwc_exp.errors import DataError, MissingInputError, UserError

HEAD_BYTES = 4096  # holds the header of every format but some JPEG


@contextmanager
def open_file(path: Path) -> Iterator[FileIO]:
    """Opens a file that is not empty; refuses pipes and devices, which could block."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"Not a regular file: {path}.")
        if status.st_size == 0:
            raise DataError(f"Empty file: {path}.")
        # Unbuffered: a walk by seeking must read what it asks for, not 8 KiB around it.
        with FileIO(path) as file:
            yield file
    except UserError:
        raise
    except FileNotFoundError:
        raise MissingInputError(f"No such file: {path}.") from None
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from None


def length_of(file: FileIO) -> int:
    """Length of an open file, in bytes."""
    return os.fstat(file.fileno()).st_size


def read_bytes(path: Path) -> bytes:
    """Reads a whole file."""
    with open_file(path) as file:
        return file.readall()
