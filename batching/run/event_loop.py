"""The event loop that a batch runs in: the server's own under ASGI, one of this process under WSGI."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from asgiref.sync import async_to_sync

from wire.once import once


def wait[T](work: Callable[[], Coroutine[Any, Any, T]], *, in_server: bool) -> T:
    """Run `work` to its end from a thread. It is cancelled where the server cancels the request, or the thread ends."""
    if in_server:
        return async_to_sync(work)()
    future = asyncio.run_coroutine_threadsafe(work(), background(os.getpid()))
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@once
def background(process: int) -> asyncio.AbstractEventLoop:
    """Return the loop of this process; one that was forked needs its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="batch-loop", daemon=True).start()
    return loop


def blocking(parts: AsyncGenerator[bytes]) -> Iterator[bytes]:
    """Yield the same to a server that speaks WSGI: it reads in a thread what happens in a loop beside it."""

    async def following() -> bytes | None:
        return await anext(parts, None)

    try:
        while part := wait(following, in_server=False):
            yield part
    finally:
        wait(parts.aclose, in_server=False)
