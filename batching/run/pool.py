"""Who carries out a batch's items: threads of the process's places, as few as it takes to keep nobody waiting.

A place for each item costs twice as much as items that do little. So one worker takes them one after the other, and
when he isn't half through after HEAD_START seconds, each of the others gets a worker of its own; unless he has computed
most of that time, by the clock of his thread: threads wait side by side, but compute in turns.
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

from batching.items.item import Item, ItemResponse
from batching.items.request_factory import PreparedRequest
from wire.asgi.threads import Pool
from wire.once import once

logger = logging.getLogger(__name__)

HEAD_START = 0.005

# Work that was told to end and hasn't yet; held here, so that it isn't lost before it has.
ending: set[asyncio.Task[None]] = set()

CarryOut = Callable[[Item, PreparedRequest], ItemResponse]
Report = Callable[[Item, ItemResponse, float], None]


@once
def places(count: int) -> Pool:
    """Return the places for items in this process. A place is a thread: it is taken until what it runs is done."""
    return Pool(count, "batch-item")


def thread_clock() -> Callable[[], float]:
    """Return what tells any thread the seconds of CPU that this one has used; where there is no such clock, none."""
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.pthread_getcpuclockid(threading.get_ident()))
    return float


class ItemWorkers:
    """The workers of one batch; it belongs to the event loop in which it is made.

    `carry_out` is called in a place; `report` in the event loop, with the answer and the monotonic moment it came: at
    once where somebody waits for each answer (`eager`), else when the worker has nothing left to do.
    """

    def __init__(self, carry_out: CarryOut, report: Report, *, concurrency: int, eager: bool) -> None:
        self._carry_out = carry_out
        self._report = report
        self._places = places(concurrency)
        self._loop = asyncio.get_running_loop()
        self._line: deque[tuple[Item, PreparedRequest]] = deque()
        self._results: deque[tuple[Item, ItemResponse, float]] = deque()
        self._eager = eager
        self._employed: set[asyncio.Task[None]] = set()
        self._hurried = False
        self._waiting = 0
        # Of the first worker: when he was last looked at, on the wall and on his thread's own clock.
        self._seen = (0.0, 0.0)
        self._clock: Callable[[], float] | None = None
        self._timer = self._loop.call_later(HEAD_START, self._look)

    def put(self, item: Item, sent: PreparedRequest) -> None:
        """Have an item carried out as soon as there is a place for it."""
        self._line.append((item, sent))
        self._waiting += 1
        if self._hurried or not self._employed:
            self._employ()

    def end(self) -> None:
        """Report what is there and stop. What waits is dropped, what runs in the event loop is cancelled."""
        self._timer.cancel()
        self._line.clear()
        self._collect()
        for task in self._employed:
            ending.add(task)
            task.add_done_callback(ending.discard)
            task.cancel()

    def _look(self) -> None:
        """Have those that still wait carried out now, unless that would gain nothing."""
        before, self._waiting = self._waiting, len(self._line)
        if 0 < self._waiting * 2 < before or (self._waiting and self._has_computed()):
            self._timer = self._loop.call_later(HEAD_START, self._look)
            return
        self._hurried = True
        for _ in range(self._waiting):
            self._employ()

    def _has_computed(self) -> bool:
        """Tell whether the first worker has computed most of the time since he began, or was last looked at.

        One who hasn't begun waits for a place or for the processor: others would wait with him.
        """
        if self._clock is None:
            return True
        wall, computed = self._seen
        self._seen = time.monotonic(), self._clock()
        return (self._seen[1] - computed) * 2 > self._seen[0] - wall

    def _employ(self) -> None:
        # A context of its own: the request's holds a thread that ends with the request.
        task = self._loop.create_task(self._places.sync_to_async(self._work)(), context=Context())
        self._employed.add(task)
        task.add_done_callback(self._retire)

    def _retire(self, task: asyncio.Task[None]) -> None:
        self._employed.discard(task)
        if not task.cancelled() and (error := task.exception()):
            logger.error("worker=crashed", exc_info=error)
        if self._line and not self._employed:  # put there just when the worker had seen that nothing was left
            self._employ()

    def _collect(self) -> None:
        while self._results:
            self._report(*self._results.popleft())

    # In a place.

    def _work(self) -> None:
        if self._clock is None:
            clock = thread_clock()
            self._seen = time.monotonic(), clock()
            self._clock = clock
        while job := self._next():
            item, sent = job
            if item.begin():
                self._results.append((item, self._carry_out(item, sent), time.monotonic()))
                if self._eager:
                    self._wake()
        self._wake()

    def _next(self) -> tuple[Item, PreparedRequest] | None:
        try:
            return self._line.popleft()
        except IndexError:
            return None

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits for the answer
            self._loop.call_soon_threadsafe(self._collect)
