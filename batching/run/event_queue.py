"""The events of a streamed batch on their way to its client, in a bounded number where items stream events."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from wire.api.sse import NumberedEvent, or_heartbeat

# Events of items' own streams that wait for the client. Those of the batch itself are few and are never held back.
MAX_RELAYED = 256


class EventQueue:
    """A queue of events in one event loop: `post` never waits, `relay` waits for the reader."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[str | None, bool]] = asyncio.Queue()
        self._relayed = asyncio.Semaphore(MAX_RELAYED)

    def post(self, event: dict[str, Any]) -> None:
        """Add an event of the batch itself."""
        self._queue.put_nowait((json.dumps(event), False))

    async def relay(self, event: dict[str, Any]) -> None:
        """Add an event of an item's own stream, once there is room for it."""
        await self._relayed.acquire()
        self._queue.put_nowait((json.dumps(event), True))

    def close(self) -> None:
        self._queue.put_nowait((None, False))

    async def follow(self) -> AsyncGenerator[NumberedEvent | None]:
        """Yield the events as JSON until the queue is closed; None where a heartbeat is due."""
        number = 0
        while True:
            event = await or_heartbeat(self._queue.get)
            if event is None:
                yield None
                continue
            payload, relayed = event
            if relayed:
                self._relayed.release()
            if payload is None:
                return
            number += 1
            yield number, payload
