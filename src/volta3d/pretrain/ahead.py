"""The views of the next micro-batches are made while the step before them runs.

Views are a pure function of (seed, epoch, scan, view), so threads change when they are made and
nothing else. Reading from the store, if the scans are not held in memory, overlaps the same way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(make: Callable[[Item], Made], items: Iterable[Item], workers: int) -> Iterator[Made]:
    """``make(item)`` of each item in order, ``workers`` of them ahead in as many threads.

    Args:
        make: thread-safe.
        workers: 0 makes each when it is asked for.

    An error of ``make`` is raised where its result would have been.
    """
    if workers == 0:
        yield from map(make, items)
        return
    waiting = iter(items)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="views")
    try:
        made: deque[Future[Made]] = deque()
        for item in waiting:
            made.append(pool.submit(make, item))
            if len(made) > workers:
                yield made.popleft().result()
        while made:
            yield made.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def within(seconds: float, work: Callable[[], Made]) -> Made:
    """What ``work`` returns or raises, unless it takes longer.

    A read that hangs in the system cannot be stopped: its thread is left behind and ends with the
    process.

    Raises:
        TimeoutError: it is not done after so many seconds.
    """
    future: Future[Made] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised again where it is waited for
            future.set_exception(error)

    Thread(target=run, name="read", daemon=True).start()
    return future.result(timeout=seconds)
