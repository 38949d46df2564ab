"""Requests to stop a run: Ctrl-C, SIGTERM, SIGUSR2 of a queue, or a file in the run folder."""

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tqdm import tqdm

STOP_FILE = "stop"  # in a run folder: asks the run to stop, and contains the reason
QUEUE_SIGNAL = getattr(signal, "SIGUSR2", None)  # of Slurm; Windows has none
_ENDING = [number for number in (signal.SIGTERM, signal.SIGINT, QUEUE_SIGNAL) if number]


class StopSignals:
    """A context that notes the first SIGTERM, SIGUSR2 or Ctrl-C, so that a loop can end cleanly.

    The second one ends the process at once. SIGHUP is ignored: a run survives its terminal.
    TensorFlow's multi-worker strategy handles SIGTERM itself: enter after it is made.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Installs the handlers, which Python allows in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                self._before[number] = signal.signal(number, self._note)
            if hangup := getattr(signal, "SIGHUP", None):
                self._before[hangup] = signal.signal(hangup, signal.SIG_IGN)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restores the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = signal.Signals(number)
        text = f"{self.received.name}: stopping after this step; send it again to stop at once\n"
        with suppress(OSError):  # not print, which this may have interrupted
            os.write(2, text.encode())


def asked_by_file(run_dir: Path) -> str | None:
    """The reason in the stop file of `run_dir`, if there is one."""
    try:
        return (run_dir / STOP_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def log(text: str) -> None:
    """Prints a line above the progress bar; nothing if standard output has been closed."""
    try:
        tqdm.write(text)
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 # until the end
