"""Starts and stops the embedded worker, in a server with a lifespan."""

import asyncio

from batching.background import embedded

__all__ = ["shutdown", "startup"]


async def startup() -> None:
    """Start the worker, which goes on with open background batches."""
    embedded.start()


async def shutdown() -> None:
    """Stop the worker, which releases unfinished items."""
    await asyncio.to_thread(embedded.stop)
