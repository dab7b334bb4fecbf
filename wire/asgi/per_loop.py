"""Connections, and other things that only the calls of one event loop can share."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager


class PerLoop[T]:
    """Holds one thing open for each event loop that asks for it. `make` must not wait for anything.

    The thing is closed with its loop: `asyncio.run`, and with it the short-lived loop of a synchronous view, closes the
    generators that are open in the loop, and one of these holds the thing.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._open: dict[asyncio.AbstractEventLoop, T] = {}
        self._holders: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}

    async def get(self) -> T:
        """Return the running loop's."""
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            self._forget_closed_loops()
            self._holders[loop] = self._hold(loop)
            await anext(self._holders[loop])
        return self._open[loop]

    async def aclose(self) -> None:
        """Close the running loop's."""
        if holder := self._holders.get(asyncio.get_running_loop()):
            await holder.aclose()

    async def _hold(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        async with self._make() as self._open[loop]:
            try:
                yield
            finally:
                del self._open[loop], self._holders[loop]

    def _forget_closed_loops(self) -> None:
        """Forget loops that were closed without closing their generators."""
        for loop in [each for each in self._holders if each.is_closed()]:
            del self._open[loop], self._holders[loop]
