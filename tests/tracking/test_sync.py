"""The thread behind a store: what fails is repeated, and holds up nothing."""

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tracked import FAR, FakeStore

from pwc_exp.tracking import mlflow_store, tracker
from pwc_exp.tracking.tracker import BackgroundSync

FAILED = (
    "Store does not take what is sent; the run continues, and do something "
    "(ConnectionError: nobody there)"
)
INCOMPLETE = "Store is incomplete at the end of the run ({}); do something"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "PERIOD", 0.001)
    monkeypatch.setattr(tracker, "_LONGEST_PAUSE", 0.001)


def start(store: Any) -> BackgroundSync:
    return BackgroundSync("Store", lambda: store, remedy="do something")


def close(background: BackgroundSync, seconds: float = FAR) -> None:
    background.end("FINISHED")
    background.join(time.monotonic() + seconds)


def wait_for(store: FakeStore) -> None:
    deadline = time.monotonic() + FAR
    while not store.statuses and time.monotonic() < deadline:
        time.sleep(0.001)


def test_a_store_is_synced_again_and_again_and_told_the_end_last(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FakeStore()
    background = start(store)
    while len(store.statuses) < 3:
        time.sleep(0.001)
    close(background)
    assert set(store.statuses[:-1]) == {None}
    assert store.statuses[-1] == "FINISHED"
    assert caplog.messages == []


def test_a_store_that_fails_is_opened_again_and_reported_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = FakeStore(failures=9)
    openings: Iterator[Any] = iter([{}, {}, *[{"is": store}] * 20])
    background = BackgroundSync("Store", lambda: next(openings)["is"], remedy="do something")
    wait_for(store)
    close(background)
    assert store.statuses[-1] == "FINISHED"
    assert caplog.messages[0].endswith("(KeyError: 'is')")
    assert caplog.messages[1:] == [FAILED]


def test_a_store_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.free.clear()
    background = start(store)
    store.reached.wait(FAR)
    begun = time.monotonic()
    close(background, seconds=0.1)
    assert time.monotonic() - begun < 5
    assert caplog.messages == [INCOMPLETE.format("it does not answer")]
    store.free.set()


def test_a_store_that_never_works_is_incomplete(caplog: pytest.LogCaptureFixture) -> None:
    background = start(FakeStore(failures=10**6))
    close(background)
    assert caplog.messages == [FAILED, INCOMPLETE.format("ConnectionError: nobody there")]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_the_caller_that_requires_a_store_learns_why_it_does_not_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse() -> FakeStore:
        raise ConnectionError("no one")

    refused = BackgroundSync("Store", refuse, remedy="", required=True)
    assert refused.wait_until_open(0.2) == "Store cannot be reached (ConnectionError: no one)"
    refused.end("FAILED")
    opened = BackgroundSync("Store", FakeStore, remedy="", required=True)
    assert opened.wait_until_open(FAR) is None
    assert caplog.messages == []
    close(opened)


def test_messages_of_errors_are_short_and_hide_passwords() -> None:
    error = ConnectionError("at http://me:secret@host/a\n" + "x" * 500 + " the cause")
    text = mlflow_store.shorten(error)
    assert text.startswith("ConnectionError: at http://host/a x")
    assert text.endswith("the cause")
    assert len(text) < 230
