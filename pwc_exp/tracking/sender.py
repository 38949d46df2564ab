"""A thread that feeds one store from a queue: a store that is slow, broken or gone stops no run."""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from pwc_exp.tracking.events import Artifact, Event, Picture, Point, Store

_LOG = logging.getLogger(__name__)
_MAX_PICTURES = 64  # that wait: some 100 MB
_MAX_POINTS = 1000  # in one call
_ATTEMPTS = 4  # to send what is not a point; points are tried until the run ends
_LONGEST_PAUSE = 60.0  # between attempts, seconds


class Sender:
    """Sends events to the store that `open_store` makes, which is called in the thread as well.

    The first failure is logged as a warning, and so is what could not be sent when the run ends.
    """

    def __init__(self, name: str, open_store: Callable[[], Store]) -> None:
        self._name = name
        self._open_store = open_store
        self._waiting: deque[Event] = deque()
        self._status: str | None = None  # of the run, once it has ended
        self._changed = threading.Condition()  # guards the two above
        self._store: Store
        self._warned = False
        # A daemon, because a store that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=f"{name} sender", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Queues an event; returns at once."""
        with self._changed:
            obsolete = _obsolete(self._waiting, event)
            if obsolete is not None:
                del self._waiting[obsolete]
            self._waiting.append(event)
            self._changed.notify()

    def close(self, status: str, *, deadline: float) -> None:
        """Sends what waits, then `status`; gives up when `time.monotonic()` is `deadline`."""
        with self._changed:
            self._status = status
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            unsent = len(self._waiting)
        if unsent or self._thread.is_alive():
            _LOG.warning(
                "%s is incomplete: %d entries were not sent when the run ended.",
                self._name,
                unsent,
            )

    def _run(self) -> None:
        if not self._insist(self._open, lasting=True):
            return
        while events := self._take():
            lasting = isinstance(events[0], Point)
            sent = self._insist(partial(self._send, events), lasting=lasting)
            if lasting and not sent:
                with self._changed:
                    self._waiting.extendleft(reversed(events))
                return
        self._insist(lambda: self._store.close(self._status or ""), lasting=False)

    def _open(self) -> None:
        self._store = self._open_store()

    def _send(self, events: Sequence[Event]) -> None:
        first = events[0]
        if isinstance(first, Point):
            self._store.send_points([event for event in events if isinstance(event, Point)])
        else:
            self._store.send_item(first)

    def _take(self) -> list[Event]:
        """Waits for events and takes the first, with the points that follow a point.

        Empty when the run has ended and nothing waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._status is not None)
            taken: list[Event] = []
            while self._waiting and len(taken) < _MAX_POINTS:
                if taken and not (
                    isinstance(taken[0], Point) and isinstance(self._waiting[0], Point)
                ):
                    break
                taken.append(self._waiting.popleft())
            return taken

    def _insist(self, action: Callable[[], None], *, lasting: bool) -> bool:
        """Tries `action` until it succeeds, with growing pauses.

        Gives up after some attempts, unless `lasting`; in any case when the run has ended.
        """
        for attempt in itertools.count(1):
            try:
                action()
                return True
            except Exception as error:  # of whatever kind: the run is worth more than its pictures
                self._warn(error)
            pause = min(2.0**attempt, _LONGEST_PAUSE)
            with self._changed:
                if attempt == _ATTEMPTS and not lasting:
                    return False
                if self._changed.wait_for(lambda: self._status is not None, pause):
                    return False
        raise AssertionError("unreachable")

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            reason = " ".join(str(error).split())[:200]
            _LOG.warning(
                "%s does not take what is sent; the run goes on (%s: %s)",
                self._name,
                type(error).__name__,
                reason,
            )
        self._warned = True


def _obsolete(waiting: Sequence[Event], event: Event) -> int | None:
    """The position of what need not be sent once `event` waits as well; None if all must be.

    That is an artifact which `event` would overwrite, or the oldest of too many pictures.
    """
    match event:
        case Artifact():
            places = [
                index
                for index, other in enumerate(waiting)
                if isinstance(other, Artifact) and other.destination == event.destination
            ]
            return places[0] if places else None
        case Picture():
            places = [index for index, other in enumerate(waiting) if isinstance(other, Picture)]
            return places[0] if len(places) >= _MAX_PICTURES else None
        case _:
            return None
