"""What the app does before the first request and after the last one, in a server that says so."""

import asyncio

from batching.background import embedded

__all__ = ["shutdown", "startup"]


async def startup() -> None:
    """Go on with background batches where a process that ended has left them."""
    embedded.start()


async def shutdown() -> None:
    """Give back what can't be finished in a moment."""
    await asyncio.to_thread(embedded.stop)
