"""Something that is looked at again and again, in a thread, while a block waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOOK_EVERY = 0.5  # seconds


@contextmanager
def watching(look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` again and again until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY):
            look()

    thread = threading.Thread(target=watch, name="sweep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
