"""Walking many items in threads: in order, a few at a time, and ended by the first error."""

import threading
import time

import pytest

from pwc_exp.data.walk import spread, walk
from pwc_exp.errors import DataError


def test_results_come_in_the_order_of_the_items() -> None:
    def slow_if_even(number: int) -> int:
        time.sleep(0.002 * (number % 2 == 0))
        return -number

    results = list(walk(slow_if_even, range(50), workers=4, title="test"))
    assert results == [-number for number in range(50)]
    assert list(walk(slow_if_even, [], workers=4, title="test")) == []


def test_items_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert len(list(walk(lambda _: meeting.wait(), range(3), workers=3, title="test"))) == 3


def test_only_a_few_results_are_made_ahead() -> None:
    begun: list[int] = []
    results = walk(begun.append, range(1000), workers=2, title="test")
    next(results)
    time.sleep(0.05)
    assert 1 < len(begun) < 20
    del results
    assert len(begun) < 20


def test_the_first_error_ends_it_and_later_items_are_left() -> None:
    begun: list[int] = []

    def fails_at_once(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise DataError("zero")
        time.sleep(0.3)

    with pytest.raises(DataError, match="zero"):
        list(walk(fails_at_once, range(1000), workers=1, title="test"))
    assert len(begun) <= 2  # the second may have begun before the error was seen


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(None, "abcdefghij"), (99, "abcdefghij"), (10, "abcdefghij"), (3, "adg"), (1, "a"), (0, "")],
)
def test_what_is_taken_is_spread_evenly(limit: int | None, expected: str) -> None:
    assert "".join(spread("abcdefghij", limit)) == expected
