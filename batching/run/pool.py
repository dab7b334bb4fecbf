"""The threads that execute a batch's items: as few as it takes to keep no item waiting.

A thread for each item costs twice as much as items that do little. So one worker takes them one after the other. If it
isn't halfway through after HEAD_START seconds, each of the others gets a worker of its own; unless the first has
computed most of that time, by its thread's clock: threads wait side by side, but compute in turns.
"""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from functools import partial

from django.http import HttpRequest

from batching.items.item import Item, ItemResponse
from wire.asgi.threads import Pool
from wire.once import once

logger = logging.getLogger(__name__)

HEAD_START = 0.005

# Tasks that are cancelled and haven't ended yet; the event loop itself holds them only weakly.
cancelled_tasks: set[asyncio.Task[None]] = set()

Execute = Callable[[Item, HttpRequest], ItemResponse]
Report = Callable[[Item, ItemResponse, float], None]


@once
def item_threads(count: int) -> Pool:
    """Return the threads for items in this process. One is taken until its item's view returns."""
    return Pool(count, "batch-item")


def thread_clock() -> Callable[[], float]:
    """Return a clock, for any thread, of the CPU seconds that this one has used; it stays at 0 where none exists."""
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    return float


class ItemWorkers:
    """The workers of one batch, in one event loop.

    `execute` is called in a thread; `report` in the event loop, with the response and the monotonic moment it came: at
    once where each response is awaited (`eager`), else when the worker has nothing left to do.
    """

    def __init__(self, execute: Execute, report: Report, *, concurrency: int, eager: bool) -> None:
        self._execute = execute
        self._report = report
        self._threads = item_threads(concurrency)
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Item, HttpRequest]] = deque()
        self._results: deque[tuple[Item, ItemResponse, float]] = deque()
        self._eager = eager
        self._workers: set[asyncio.Task[None]] = set()
        self._one_each = False
        self._last_waiting = 0
        # When the first worker was last checked, on the wall and on its thread's own clock.
        self._last_check = (0.0, 0.0)
        self._clock: Callable[[], float] | None = None
        self._timer = self._loop.call_later(HEAD_START, self._check)

    def put(self, item: Item, request: HttpRequest) -> None:
        """Have an item executed as soon as a thread is free."""
        self._waiting.append((item, request))
        self._last_waiting += 1
        if self._one_each or not self._workers:
            self._add_worker()

    def end(self) -> None:
        """Report the results so far and stop: waiting items are dropped, views in the event loop are cancelled."""
        self._timer.cancel()
        self._waiting.clear()
        self._collect()
        for task in self._workers:
            cancelled_tasks.add(task)
            task.add_done_callback(cancelled_tasks.discard)
            task.cancel()

    def _check(self) -> None:
        """Give each waiting item a worker of its own, unless that would gain nothing."""
        before, self._last_waiting = self._last_waiting, len(self._waiting)
        waiting = self._last_waiting
        if 0 < waiting * 2 < before or (waiting and self._has_computed()):
            self._timer = self._loop.call_later(HEAD_START, self._check)
            return
        self._one_each = True
        for _ in range(waiting):
            self._add_worker()

    def _has_computed(self) -> bool:
        """Tell whether the first worker has computed most of the time since it began, or since the last check.

        One that hasn't begun waits for a thread or for the processor: others would wait with it.
        """
        if self._clock is None:
            return True
        wall, computed = self._last_check
        self._last_check = time.monotonic(), self._clock()
        return (self._last_check[1] - computed) * 2 > self._last_check[0] - wall

    def _add_worker(self) -> None:
        # A context of its own: the request's holds a thread that ends with the request.
        task = self._loop.create_task(self._threads.sync_to_async(self._work)(), context=Context())
        self._workers.add(task)
        task.add_done_callback(self._remove_worker)

    def _remove_worker(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("worker=crashed", exc_info=error)
        if self._waiting and not self._workers:  # an item was put just when the worker had seen that none was left
            self._add_worker()

    def _collect(self) -> None:
        while self._results:
            self._report(*self._results.popleft())

    # In a worker's thread.

    def _work(self) -> None:
        if self._clock is None:
            clock = thread_clock()
            self._last_check = time.monotonic(), clock()
            self._clock = clock
        while job := self._take():
            item, request = job
            if item.start():
                self._results.append((item, self._execute(item, request), time.monotonic()))
                if self._eager:
                    self._wake()
        self._wake()

    def _take(self) -> tuple[Item, HttpRequest] | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, with its batch
            self._loop.call_soon_threadsafe(self._collect)
