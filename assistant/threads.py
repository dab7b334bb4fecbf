"""Blocking work beside the event loop, in few threads, each piece with its database connections given back."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context

from django.db import close_old_connections

from wire.asgi.threads import Pool

# What answers store.
STORING = Pool(4, "assistant-store")


async def in_thread[T](work: Callable[[], T], pool: Executor = STORING) -> T:
    """Run `work` in a thread of the pool, with the caller's context."""
    return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, given_back, work)


def given_back[T](work: Callable[[], T]) -> T:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()
