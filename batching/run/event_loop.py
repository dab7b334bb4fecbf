"""The event loop that a batch runs in: the server's own under ASGI, one of this process under WSGI."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any

from asgiref.sync import async_to_sync

from wire.once import once


def wait[T](work: Callable[[], Coroutine[Any, Any, T]], *, is_asgi: bool) -> T:
    """Run `work` from a thread and return its result. It is cancelled with the request, or with the thread."""
    if is_asgi:
        return async_to_sync(work)()
    future = asyncio.run_coroutine_threadsafe(work(), background_loop(os.getpid()))
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


@once
def background_loop(process: int) -> asyncio.AbstractEventLoop:
    """Return the loop of this process; a forked process needs its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="batch-loop", daemon=True).start()
    return loop


def blocking(parts: AsyncGenerator[bytes]) -> Iterator[bytes]:
    """Yield the parts to a WSGI server, which reads them in a thread beside the loop that makes them."""

    async def next_part() -> bytes | None:
        return await anext(parts, None)

    try:
        while part := wait(next_part, is_asgi=False):
            yield part
    finally:
        wait(parts.aclose, is_asgi=False)
