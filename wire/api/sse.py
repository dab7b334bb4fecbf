"""Server-sent events: frames, their reader, and the response that carries them.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html. A frame is ASCII (some clients split lines
at U+2028) and is written in one piece, so that a client that parses each network chunk on its own works.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any
from weakref import ref

from django.http import StreamingHttpResponse

from wire.asgi.detached import DetachedStream, taker
from wire.asgi.threads import release_thread
from wire.errors import WireError

# An event's number, from 1, and its payload.
NumberedEvent = tuple[int, str]
# Takes an event, given as its number and its payload, at once, without waiting, and returns True; or returns False.
Push = Callable[[int, str], bool]

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": keep-alive\n\n"

# A request that came otherwise than through ASGI.
NO_SCOPE: Mapping[str, Any] = MappingProxyType({})
# Whether who asked can be given a stream; a batch that is answered in one piece says no for its items.
can_stream: ContextVar[bool] = ContextVar("can_stream", default=True)


class NoStream(WireError):
    """Who asked for a stream can't be given one."""

    status = 406
    message = "A stream can't be the answer of an item; call this one on its own, or stream the batch."


def frame(number: int, payload: str) -> bytes:
    """Encode event `number`, whose payload is one line of ASCII JSON."""
    return f"id: {number}\ndata: {payload}\n\n".encode("ascii")


def read_cursor(text: str | None) -> int:
    """Return the number of the last event that a client has (`Last-Event-ID`); 0 where it says nothing usable."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


async def or_heartbeat[T](next_event: Callable[[], Awaitable[T]]) -> T | None:
    """Return the next event; None once a heartbeat is due, and then `next_event` is cancelled."""
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            return await next_event()
    except TimeoutError:
        return None


async def frames(events: AsyncGenerator[NumberedEvent | None]) -> AsyncGenerator[bytes]:
    """Encode events; None, which stands for some time without one, becomes a comment line."""
    async with aclosing(events):
        async for event in events:
            yield HEARTBEAT if event is None else frame(*event)


def pusher(scope: Mapping[str, Any]) -> Push | None:
    """Return what takes the events of the stream that answers a request and sends them past it, if that can be.

    The stream has to be handed over as it is, and the server has to take parts of it at once: else nothing is taken.
    """
    stream = taker(scope)
    return (lambda number, payload: stream.push(frame(number, payload))) if stream else None


class EventStreamResponse(StreamingHttpResponse):
    """A stream of frames that neither a proxy nor GZipMiddleware holds back.

    With the `scope` of its request it is handed over where `wire.asgi.detached` is there to take it.
    """

    def __init__(self, frames: AsyncGenerator[bytes], scope: Mapping[str, Any] = NO_SCOPE) -> None:
        super().__init__(frames, content_type="text/event-stream")
        # A middleware may put its own in their place, and then leaves it to the collector to close these.
        self._frames = ref(frames)
        self._handover: DetachedStream | None = taker(scope)
        self.headers["Cache-Control"] = "no-cache, no-transform"
        self.headers["X-Accel-Buffering"] = "no"
        # GZipMiddleware leaves alone what has an encoding; what it packs, Chromium shows only at the end.
        self.headers["Content-Encoding"] = "identity"

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Close the frames when the reader leaves: Django closes its own wrapper and leaves them to the collector.

        No thread stays with them.
        """
        iterator = self._iterator  # type: ignore[attr-defined]  # Django's own; perhaps a middleware's
        if self._handover and isinstance(iterator, AsyncGenerator):
            self._handover.take(iterator, whole=iterator is self._frames())
            return
        release_thread()
        async with aclosing(iterator) as parts:
            async for part in parts:
                yield part
