"""The numbered events of one stream: written once, read by any number of readers at their own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from wire.api.sse import NumberedEvent, Push

# After so many a reader that has more of them to come gives way to the loop's other tasks.
EVENTS_AT_ONCE = 16
# Events that are fewer seconds apart are written at once.
MOMENT = 0.001


class EventLog:
    """Event n (from 1) is `payloads[n - 1]`; a reader is one integer, the number of the last event it has.

    It belongs to one event loop. Nothing is dropped while it lives: whoever writes bounds what is written.
    """

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.closed = False
        # A list: few read along, and an empty one is a quarter of a set.
        self._watchers: list[Callable[[], None]] = []

    def append(self, payload: str) -> None:
        """Add an event, given as its JSON text, and tell whoever reads along."""
        self.payloads.append(payload)
        for watcher in self._watchers:
            watcher()

    def close(self, payload: str) -> None:
        """Add the last event."""
        self.closed = True
        self.append(payload)

    def after(self, cursor: int) -> Sequence[str]:
        return self.payloads[cursor:]

    def ended_before(self, cursor: int) -> bool:
        """Tell whether a reader at `cursor` has everything that will ever be."""
        return self.closed and cursor >= len(self.payloads)

    async def wait(self) -> None:
        """Wait for the next event."""
        came = asyncio.Event()
        with self.watched(came.set):
            await came.wait()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` at each event until the block ends. What it raises is raised to who writes."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)


async def follow(
    log: EventLog, cursor: int = 0, *, patience: float, push: Push | None = None
) -> AsyncGenerator[NumberedEvent | None]:
    """Yield the events after `cursor`, live, until the log is closed; None after `patience` seconds without one.

    While it waits, `push` is given each event as it is written; what that takes isn't yielded. The last event is.
    """
    reader = LogReader(log, cursor, patience, push)
    with log.watched(reader.notice):
        try:
            while not log.ended_before(reader.cursor):
                for payload in log.after(reader.cursor):
                    reader.cursor += 1
                    yield reader.cursor, payload
                    if reader.cursor % EVENTS_AT_ONCE == 0 and reader.cursor < len(log.payloads):
                        await asyncio.sleep(0)
                if len(log.payloads) <= reader.cursor and not log.closed and not await reader.more():
                    yield None
        finally:
            reader.close()


class LogReader:
    """Where a reader of a log is, and its waits for more.

    One timer looks after all of its waits: one for each would cost as much as sending an event. And to be woken costs
    as much again, so that an event is pushed where it can be.
    """

    __slots__ = ("_at_once", "_log", "_loop", "_patience", "_push", "_since", "_timer", "_waiter", "cursor")

    def __init__(self, log: EventLog, cursor: int, patience: float, push: Push | None) -> None:
        self.cursor = cursor
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._push = push
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[bool] | None = None

    async def more(self) -> bool:
        """Wait for an event that wasn't pushed; return False after `patience` seconds without any."""
        self._waiter = self._loop.create_future()
        self._since = self._loop.time()
        self._at_once = 0
        if self._timer is None:
            self._look_in(self._patience)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def notice(self) -> None:
        """Have the event that was just written pushed, or wake the reader if it waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        log, now = self._log, self._loop.time()
        number = len(log.payloads)
        # Who writes many at once would push them all before others have their turn. A log may have to catch up with
        # what its reader has had elsewhere.
        self._at_once = self._at_once + 1 if now - self._since < MOMENT else 0
        may_push = self._at_once < EVENTS_AT_ONCE and number > self.cursor and not log.closed
        try:
            if may_push and self._push and self._push(number, log.payloads[-1]):
                self.cursor = number
                self._since = now
            else:
                waiter.set_result(True)
        except Exception as error:  # it is the reader's, and not to be raised to who writes
            waiter.set_exception(error)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():  # nobody waits
            return
        left = self._since + self._patience - self._loop.time()
        if left > 0:
            self._look_in(left)
        else:
            self._waiter.set_result(False)
