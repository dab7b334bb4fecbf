"""The event loop that a batch runs in: the server's own under ASGI, one of this process under WSGI."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
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
