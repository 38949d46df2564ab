"""Being asked to stop: by Ctrl-C, SIGTERM or SIGUSR2 of a queue, a closed terminal, or a file."""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tqdm import tqdm

STOP_FILE = "stop"  # in a run's folder: asks it to stop, and says why
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class StopSignals:
    """Notes the first SIGTERM, SIGUSR2 or Ctrl-C: a loop ends between two steps. A context.

    The second one ends the process at once. SIGHUP is ignored: a run outlives its terminal.
    TensorFlow's strategy for several workers takes SIGTERM for itself: enter after it is made.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Takes the signals over; in other threads than the main one, Python does not allow it."""
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                self._before[number] = signal.signal(number, self._note)
            self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = signal.Signals(number)
        text = f"{self.received.name}: stopping after this step; once more, and it stops at once\n"
        with suppress(OSError):  # not print, which this may have interrupted
            os.write(2, text.encode())


def asked_by_file(run_dir: Path) -> str | None:
    """Why the run in `run_dir` is asked to stop, if another program has written that there."""
    try:
        return (run_dir / STOP_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def log(text: str) -> None:
    """Prints a line above the progress bar; into a pipe that nobody reads any more, nothing."""
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 # until the end
