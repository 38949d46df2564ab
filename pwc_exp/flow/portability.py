"""Which form of an operation runs: the portable one, or TensorFlow's with a gradient of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras

_portable_only = ContextVar("portable_only", default=False)


@contextmanager
def portable_only() -> Iterator[None]:
    """Within, networks are traced as plain operations, for sizes that need not be known.

    For graphs that leave this program: what they are converted to knows neither XLA nor gradients
    written in Python.
    """
    token = _portable_only.set(True)
    try:
        yield
    finally:
        _portable_only.reset(token)


def uses_tensorflow() -> bool:
    """Whether the operations of `tensorflow_ops` are to be used."""
    return keras.backend.backend() == "tensorflow" and not _portable_only.get()
