"""What can be shared by the calls of one event loop only: connections."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager


class PerLoop[T]:
    """Keeps one of something open for each event loop that asks for one; `make` must not wait for anything.

    It ends with its loop: `asyncio.run`, and with it a synchronous view's short-lived loop, closes the generators that
    are open in it, and each one of these is held by one.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._open: dict[asyncio.AbstractEventLoop, T] = {}
        self._keepers: dict[asyncio.AbstractEventLoop, AsyncGenerator[None]] = {}

    async def get(self) -> T:
        """Return the running loop's one."""
        loop = asyncio.get_running_loop()
        if loop not in self._open:
            self._forget_closed()
            self._keepers[loop] = self._keep(loop)
            await anext(self._keepers[loop])
        return self._open[loop]

    async def aclose(self) -> None:
        """Close the running loop's one."""
        if keeper := self._keepers.get(asyncio.get_running_loop()):
            await keeper.aclose()

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        async with self._make() as self._open[loop]:
            try:
                yield
            finally:
                del self._open[loop], self._keepers[loop]

    def _forget_closed(self) -> None:
        """Let go of loops that were closed without ending their generators."""
        for loop in [each for each in self._keepers if each.is_closed()]:
            del self._open[loop], self._keepers[loop]
