"""Does something with many samples, in threads and behind a progress bar."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from tqdm import tqdm

_T = TypeVar("_T")
_R = TypeVar("_R")

_AHEAD = 4  # results that may wait, for each worker: what they hold stays small


def walk(
    function: Callable[[_T], _R], items: Sequence[_T], *, workers: int, title: str
) -> Iterator[_R]:
    """Results of `function` for each item, in the order of the items.

    The first exception of `function` ends it, and items that were not begun are left.
    """
    bar = tqdm(total=len(items), desc=title, unit="pair", disable=None, leave=False)
    with bar, ThreadPoolExecutor(workers) as pool:
        left = iter(items)
        waiting: deque[Future[_R]] = deque(
            pool.submit(function, item) for item in islice(left, _AHEAD * workers)
        )
        try:
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(left, 1))
                bar.update()
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def spread(items: Sequence[_T], limit: int | None) -> Sequence[_T]:
    """At most `limit` of the items, evenly spread over them; all of them without a limit."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]
