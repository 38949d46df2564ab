"""A thread that feeds one store from a queue: a store that is slow, broken or gone stops no run."""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from pwc_exp.tracking.events import Artifact, Event, Picture, Point, Store, Tag
from pwc_exp.tracking.provenance import without_password

_LOG = logging.getLogger(__name__)
_MAX_PICTURES = 64  # that wait: some 100 MB
_MAX_POINTS = 1000  # in one call
_ATTEMPTS = 4  # to send what is not a point; points are tried until the run ends
_LONGEST_PAUSE = 60.0  # between attempts, seconds
_SHOWN = 200  # characters of an error message


class Sender:
    """Sends events to the store that `open_store` makes, which is called in the thread as well.

    The first failure is logged as a warning, and so is what could not be sent when the run ends.
    """

    def __init__(
        self, name: str, open_store: Callable[[], Store], *, remedy: str, required: bool = False
    ) -> None:
        """Starts.

        Args:
            name: of the store, in warnings.
            open_store: makes the store.
            remedy: what sends the rest, in warnings.
            required: someone calls `wait_until_open`, and says what is wrong if the store does not.
        """
        self._name = name
        self._open_store = open_store
        self._remedy = remedy
        self._waiting: deque[Event] = deque()
        self._status: str | None = None  # of the run, once it has ended
        self._dropped = 0  # items that the store refused
        self._sending: Sequence[Event] = ()
        self._failing = False  # the last attempt was in vain
        self._changed = threading.Condition()  # guards the five above
        self._opened = threading.Event()
        self._silent = required  # once a failure has been told, or while someone else will
        self._reason = "it does not answer"
        self._store: Store
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
            self._changed.notify_all()

    def wait_until_open(self, seconds: float) -> str | None:
        """Waits for the store, and returns what is wrong if it cannot be opened by then."""
        opened = self._opened.wait(seconds)
        return None if opened else f"{self._name} cannot be reached ({self._reason})"

    def wait_for_pictures(self, seconds: float) -> None:
        """Waits until the store has all pictures, unless it fails or takes longer than that."""
        with self._changed:
            self._changed.wait_for(lambda: self._failing or not self._has_pictures(), seconds)

    def end(self, status: str) -> None:
        """Has what waits sent, then `status`; returns at once."""
        with self._changed:
            self._status = status
            self._changed.notify_all()

    def join(self, deadline: float) -> None:
        """Waits for that, and gives up when `time.monotonic()` is `deadline`."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            unsent = len(self._waiting) + self._dropped
        if unsent or self._thread.is_alive():
            _LOG.warning(
                "%s is incomplete: %d entries were not sent when the run ended; %s",
                self._name,
                unsent,
                self._remedy,
            )

    def _run(self) -> None:
        if not self._insist(self._open, lasting=True):
            return
        while events := self._take():
            lasting = isinstance(events[0], Point)
            sent = self._insist(partial(self._send, events), lasting=lasting)
            with self._changed:
                self._sending = ()
                self._changed.notify_all()
                if not sent and not lasting:
                    self._dropped += 1
                elif not sent:
                    self._waiting.extendleft(reversed(events))
                    return
        self._insist(lambda: self._store.close(self._status or ""), lasting=False)

    def _open(self) -> None:
        self._store = self._open_store()
        self._silent = False
        self._opened.set()

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
            self._sending = taken
            return taken

    def _has_pictures(self) -> bool:
        return any(isinstance(event, Picture) for event in (*self._waiting, *self._sending))

    def _insist(self, action: Callable[[], None], *, lasting: bool) -> bool:
        """Tries `action` until it succeeds, with growing pauses.

        Gives up after some attempts, unless `lasting`; once the run has ended, after one more.
        """
        for attempt in itertools.count(1):
            with self._changed:
                ended = self._status is not None
            try:
                action()
                self._note(failing=False)
                return True
            except Exception as error:  # of whatever kind: the run is worth more than its pictures
                self._warn(error)
                self._note(failing=True)
            if ended or (attempt == _ATTEMPTS and not lasting):
                return False
            with self._changed:
                pause = min(2.0**attempt, _LONGEST_PAUSE)
                self._changed.wait_for(lambda: self._status is not None, pause)
        raise AssertionError("unreachable")

    def _note(self, *, failing: bool) -> None:
        with self._changed:
            self._failing = failing
            self._changed.notify_all()

    def _warn(self, error: Exception) -> None:
        self._reason = in_short(error)
        if not self._silent:
            _LOG.warning(
                "%s does not take what is sent; the run goes on, and %s (%s)",
                self._name,
                self._remedy,
                self._reason,
            )
        self._silent = True


def in_short(error: Exception) -> str:
    """One line: the kind, how the message begins and how it ends, without passwords."""
    text = without_password(" ".join(str(error).split()))
    shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 2 :]}"
    return f"{type(error).__name__}: {shown}"


def _obsolete(waiting: Sequence[Event], event: Event) -> int | None:
    """The position of what need not be sent once `event` waits as well; None if all must be.

    That is what `event` would overwrite, or the oldest of too many pictures.
    """
    match event:
        case Artifact() | Tag():
            places = [index for index, other in enumerate(waiting) if _overwrites(event, other)]
            return places[0] if places else None
        case Picture():
            places = [index for index, other in enumerate(waiting) if isinstance(other, Picture)]
            return places[0] if len(places) >= _MAX_PICTURES else None
        case _:
            return None


def _overwrites(event: Artifact | Tag, other: Event) -> bool:
    match event, other:
        case Artifact(), Artifact():
            return event.destination == other.destination
        case Tag(), Tag():
            return event.name == other.name
        case _:
            return False
