"""The sender: events arrive in order, and a store that fails holds up nothing."""

import logging
import time
from pathlib import Path

import pytest
from tracked import FAR, TREE, FakeStore, point

from pwc_exp.tracking import sender
from pwc_exp.tracking.events import Artifact, Event, Picture, Point, Tag, Text
from pwc_exp.tracking.sender import Sender

LOST = "Store is incomplete: {} entries were not sent when the run ended; do something"


def start(store: FakeStore) -> Sender:
    return Sender("Store", lambda: store, remedy="do something")


def close(sending: Sender, seconds: float = FAR) -> None:
    sending.end("FINISHED")
    sending.join(time.monotonic() + seconds)


def test_events_arrive_in_order_and_waiting_points_together() -> None:
    store = FakeStore()
    sending = start(store)
    events: list[Event] = [
        Text("a", ""),
        point(0),
        point(1),
        Text("b", ""),
        Text("c", ""),
        point(2),
    ]
    store.hanging.clear()
    for event in events:
        sending.put(event)
    store.hanging.set()
    close(sending)
    assert store.calls == [events[:1], events[1:3], events[3:4], events[4:5], events[5:]]
    assert store.status == "FINISHED"


def test_points_wait_until_the_store_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)
    store = FakeStore()
    refusals = iter([True] * 9)
    store.refusing = lambda events: next(refusals, False)
    sending = start(store)
    sending.put(point(0))
    store.reached.wait(FAR)
    for step in range(1, 100):
        sending.put(point(step))
    deadline = time.monotonic() + FAR
    while not store.calls and time.monotonic() < deadline:
        time.sleep(0.001)
    close(sending)
    assert store.events == [point(step) for step in range(100)]
    assert [record.getMessage() for record in caplog.records] == [
        "Store does not take what is sent; the run goes on, and do something "
        "(ConnectionError: nobody there)"
    ]


def test_what_the_store_refuses_does_not_hold_up_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)
    store = FakeStore()
    store.refusing = lambda events: isinstance(events[0], Text)
    sending = start(store)
    events: list[Event] = [Text("a", ""), point(0), Text("b", ""), point(1)]
    for event in events:
        sending.put(event)
    close(sending)
    assert store.events == [point(0), point(1)]


def test_store_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.hanging.clear()
    sending = start(store)
    sending.put(Text("a", ""))
    store.reached.wait(FAR)
    sending.put(point(0))
    begun = time.monotonic()
    close(sending, seconds=0.1)
    assert time.monotonic() - begun < 5
    assert caplog.messages == [LOST.format(1)]
    store.hanging.set()


def test_points_that_the_store_never_took_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.refusing = lambda events: True
    sending = start(store)
    sending.put(point(0))
    store.reached.wait(FAR)
    sending.put(point(1))
    close(sending)
    assert caplog.messages[1:] == [LOST.format(2)]


def test_store_that_never_opens_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)

    def refuse() -> FakeStore:
        raise ImportError("no such module")

    sending = Sender("Store", refuse, remedy="do something")
    sending.put(point(0))
    close(sending)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no such module" in caplog.messages[0]
    assert "1 entries were not sent" in caplog.messages[1]


def test_waiting_pictures_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "_MAX_PICTURES", 2)
    store = FakeStore()
    store.hanging.clear()
    sending = start(store)
    sending.put(Text("first", ""))
    store.reached.wait(FAR)
    for step in range(5):
        sending.put(Picture(step, 0, "val/a", TREE))
        sending.put(point(step))
    store.hanging.set()
    close(sending)
    assert [event.step for event in store.events if isinstance(event, Picture)] == [3, 4]
    assert [event.step for event in store.events if isinstance(event, Point)] == list(range(5))


def test_pictures_can_be_waited_for() -> None:
    store = FakeStore()
    sending = start(store)
    picture = Picture(1, 2, "key", TREE)
    store.hanging.clear()
    sending.put(point(0))
    sending.put(picture)
    sending.wait_for_pictures(0.01)
    assert store.events == []
    store.hanging.set()
    sending.wait_for_pictures(FAR)
    assert store.events == [point(0), picture]
    close(sending)


def test_pictures_of_a_store_that_fails_are_not_waited_for() -> None:
    store = FakeStore()
    store.refusing = lambda events: True
    sending = start(store)
    sending.put(Picture(1, 2, "key", TREE))
    started = time.monotonic()
    sending.wait_for_pictures(FAR)
    assert time.monotonic() - started < FAR / 2
    sending.end("FINISHED")


def test_only_the_newest_of_artifacts_for_one_place_is_sent(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("step1", "step2", "config", "report")]
    for path in paths[:2]:
        path.mkdir()
    for path in paths[2:]:
        path.touch()
    store = FakeStore()
    store.hanging.clear()
    sending = start(store)
    sending.put(Text("first", ""))
    store.reached.wait(FAR)
    for path, folder in zip(paths, ["best", "best", "about", "about"], strict=True):
        sending.put(Artifact(path, folder))
    for value in ("1", "2"):
        sending.put(Tag("mismatches", value))
    store.hanging.set()
    close(sending)
    assert [event.path for event in store.events if isinstance(event, Artifact)] == paths[1:]
    assert [event for event in store.events if isinstance(event, Tag)] == [Tag("mismatches", "2")]


def test_an_ended_run_tries_once_more_before_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore()
    refusals = iter([True])
    store.refusing = lambda events: next(refusals, False)
    sending = start(store)
    sending.put(point(0))
    store.reached.wait(FAR)
    time.sleep(0.01)  # it pauses for two seconds now
    close(sending)
    assert store.events == [point(0)]
    assert store.status == "FINISHED"


def test_items_that_the_store_refused_are_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sender, "_LONGEST_PAUSE", 0.001)
    store = FakeStore()
    store.refusing = lambda events: isinstance(events[0], Text)
    sending = start(store)
    for event in (Text("a", ""), point(0), Text("b", ""), point(1)):
        sending.put(event)
    close(sending)
    assert caplog.messages[-1] == LOST.format(2)


def test_whoever_requires_a_store_learns_why_it_does_not_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse() -> FakeStore:
        raise ConnectionError("no one")

    refused = Sender("Store", refuse, remedy="", required=True)
    assert refused.wait_until_open(0.2) == "Store cannot be reached (ConnectionError: no one)"
    refused.end("FAILED")
    opened = Sender("Store", FakeStore, remedy="", required=True)
    assert opened.wait_until_open(FAR) is None
    assert caplog.messages == []
    close(opened)
