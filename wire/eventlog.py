"""The numbered events of one stream: written once, read by any number of readers at their own pace."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager

# An event's number, from 1, and its payload.
Event = tuple[int, str]
# After so many a reader that has more of them to come gives way to the loop's other tasks.
EVENTS_AT_ONCE = 16


class EventLog:
    """Event n (from 1) is `payloads[n - 1]`; a reader is one integer, the number of the last event it has.

    It belongs to one event loop. Nothing is dropped while it lives: whoever writes bounds what is written.
    """

    def __init__(self) -> None:
        self.payloads: list[str] = []
        self.closed = False
        # Lists: few read along, and an empty one is a quarter of a set.
        self._waiters: list[asyncio.Future[bool]] = []
        self._watchers: list[Callable[[], None]] = []

    def append(self, payload: str) -> None:
        """Add an event, given as its JSON text, and wake whoever waits."""
        self.payloads.append(payload)
        self._wake()

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
        await self.waiting(asyncio.get_running_loop().create_future())

    async def waiting(self, waiter: "asyncio.Future[bool]") -> bool:
        """Wait for the next event, which makes `waiter` true, or for what somebody else makes it; return that."""
        self._waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    @contextmanager
    def watched(self, watcher: Callable[[], None]) -> Iterator[None]:
        """Call `watcher` at each event until the block ends."""
        self._watchers.append(watcher)
        try:
            yield
        finally:
            self._watchers.remove(watcher)

    def _wake(self) -> None:
        for watcher in self._watchers:
            watcher()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(True)
        self._waiters.clear()


async def follow(log: EventLog, cursor: int = 0, *, patience: float) -> AsyncGenerator[Event | None]:
    """Yield the events after `cursor`, live, until the log is closed; None after `patience` seconds without one."""
    silence = Silence(log, patience)
    try:
        while not log.ended_before(cursor):
            for payload in log.after(cursor):
                cursor += 1
                yield cursor, payload
                if cursor % EVENTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if not log.ended_before(cursor) and not log.after(cursor) and not await silence.broken():
                yield None
    finally:
        silence.close()


class Silence:
    """Waits for events, and for `patience` seconds at most.

    One timer looks after all of a reader's waits: one for each would cost as much as sending an event.
    """

    __slots__ = ("_log", "_loop", "_patience", "_since", "_timer", "_waiter")

    def __init__(self, log: EventLog, patience: float) -> None:
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    async def broken(self) -> bool:
        """Return whether an event came in time."""
        self._waiter = self._loop.create_future()
        self._since = self._loop.time()
        if self._timer is None:
            self._look_in(self._patience)
        return await self._log.waiting(self._waiter)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_in(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter.done():  # nobody waits
            return
        left = self._since + self._patience - self._loop.time()
        if left > 0:
            self._look_in(left)
        else:
            self._waiter.set_result(False)
