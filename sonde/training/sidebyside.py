"""Work on several cores: one piece of work on each is quicker than each piece on all of them, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

Given = TypeVar("Given")
Result = TypeVar("Result")


def map_side_by_side(work: Callable[[Given], Result], pieces: Sequence[Given]) -> list[Result]:
    """The results of the pieces in their order; torch's threads are shared among those that run at the same time.

    Args:
        work: must not use torch's global random state, which the pieces would share.
        pieces: what it is called with.
    """
    cores = torch.get_num_threads()
    workers = min(cores, len(pieces))
    if workers < 2:
        return [work(piece) for piece in pieces]
    with _limit_threads(cores // workers, cores), ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(partial(work, piece)) for piece in pieces]
        try:
            return [each.result() for each in waiting]
        except BaseException:
            # A run that is stopped does not wait for pieces that have not begun.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _limit_threads(count: int, before: int) -> Iterator[None]:
    """While inside, each thread's operations run on so many cores."""
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
