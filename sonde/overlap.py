"""Work that overlaps: threads run ahead of the caller, in order, with a bounded number of items in memory."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def map_ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], count: int) -> Iterator[B]:
    """`map` in threads, in order, with `count` items under way while the caller works on one.

    Args:
        pool: the threads.
        function: called in a thread; what it raises is raised in its item's turn.
        items: taken by the caller's thread.
        count: of items that are under way or done and not yet taken; with 0 the caller waits for each.
    """
    pending: deque[Future[B]] = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > count:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def count_cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
