"""The events of a streamed batch on their way to its client, never more than a slow client can be kept waiting for."""

import asyncio
import json
from typing import Any

# Events of items' own streams that wait for the client; the batch's own are few and never wait.
ROOM = 256


class Outbox:
    """A queue of events. `post` never waits, `relay` waits for the reader. It belongs to one event loop."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str | None, bool]] = asyncio.Queue()
        self._room = asyncio.Semaphore(ROOM)

    def post(self, event: dict[str, Any]) -> None:
        """Add an event of the batch itself."""
        self._queue.put_nowait((json.dumps(event), False))

    async def relay(self, event: dict[str, Any]) -> None:
        """Add an event of an item's own stream, once there is room for it."""
        await self._room.acquire()
        self._queue.put_nowait((json.dumps(event), True))

    def close(self) -> None:
        self._queue.put_nowait((None, False))

    async def take(self) -> str | None:
        """Return the next event as its JSON text; None after the last."""
        event, relayed = await self._queue.get()
        if relayed:
            self._room.release()
        return event
