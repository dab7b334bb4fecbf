"""The numbered events of one stream: written once, read by any number of readers, each at its own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

from wire.api.sse import HeartbeatTimer, NumberedEvent, Push

# Events after which a reader or writer that has more ready gives way to the loop's other tasks.
EVENTS_AT_ONCE = 16
# Events that are fewer seconds apart count as written at once.
MOMENT = 0.001


class EventLog:
    """Event n (from 1) is `payloads[n - 1]`; a reader is one integer, the number of the last event it has.

    It belongs to one event loop. It drops nothing: the writer bounds how much is written.
    """

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.closed = False
        # A list: few read along, and an empty one is a quarter of a set.
        self._watchers: list[Callable[[], None]] = []

    def append(self, payload: str) -> None:
        """Add an event, given as its JSON text, and call the watchers."""
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
        """Tell whether a reader at `cursor` has every event, and no more will come."""
        return self.closed and cursor >= len(self.payloads)

    async def wait(self) -> None:
        """Wait for the next event."""
        came = asyncio.Event()
        with self.watched(came.set):
            await came.wait()

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` at each event until the block ends. The writer gets what it raises."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)


async def follow(
    log: EventLog, cursor: int = 0, *, patience: float, push: Push | None = None
) -> AsyncGenerator[NumberedEvent | None]:
    """Yield the events after `cursor`, live, until the log is closed; None after `patience` seconds without one.

    While it waits, `push` gets each event as it is written; what it takes isn't yielded. The last event is yielded.
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
                if len(log.payloads) <= reader.cursor and not log.closed and not await reader.wait():
                    yield None
        finally:
            reader.close()


class LogReader:
    """A reader's place in a log, and its waits for more.

    To wake a reader costs as much as to send an event, so that an event is pushed where it can be.
    """

    __slots__ = ("_at_once", "_log", "_loop", "_push", "_silence", "_waiter", "cursor")

    def __init__(self, log: EventLog, cursor: int, patience: float, push: Push | None) -> None:
        self.cursor = cursor
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._push = push
        self._silence = HeartbeatTimer(self._note_silence, patience)
        self._waiter: asyncio.Future[bool] | None = None

    async def wait(self) -> bool:
        """Wait for an event that isn't pushed; return False after `patience` seconds without any."""
        self._waiter = self._loop.create_future()
        self._at_once = 0
        self._silence.restart()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def notice(self) -> None:
        """Push the event that was just written, or wake the reader if it waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        log, silence, now = self._log, self._silence, self._loop.time()
        number = len(log.payloads)
        # A writer of many at once would push them all before other tasks have their turn. A log may have to catch up
        # with what its reader has had elsewhere.
        self._at_once = self._at_once + 1 if now - silence.since < MOMENT else 0
        may_push = self._at_once < EVENTS_AT_ONCE and number > self.cursor and not log.closed
        try:
            if may_push and self._push and self._push(number, log.payloads[-1]):
                self.cursor = number
                silence.since = now
            else:
                waiter.set_result(True)
        except Exception as error:  # it is the reader's, and not to be raised to the writer
            waiter.set_exception(error)

    def close(self) -> None:
        self._silence.cancel()
        del self._silence  # which refers back to this reader

    def _note_silence(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)
