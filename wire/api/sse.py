"""Server-sent events: frames, their cursor, and the response that streams them.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html. A frame is ASCII (some clients split lines
at U+2028) and is written in one piece, so that a client that parses each network chunk on its own works.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any
from weakref import ref

from django.http import StreamingHttpResponse

from wire.asgi.detached import DetachedStream, detached_stream
from wire.asgi.threads import release_thread
from wire.errors import WireError

# An event's number, from 1, and its payload.
NumberedEvent = tuple[int, str]
# Sends an event, given as its number and its payload, at once and returns True; returns False where it can't.
Push = Callable[[int, str], bool]

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": keep-alive\n\n"

# The scope of a request that didn't come through ASGI.
NO_SCOPE: Mapping[str, Any] = MappingProxyType({})
# Whether the current request can have a stream for a response; a caller inside the process may say that it can't.
can_stream: ContextVar[bool] = ContextVar("can_stream", default=True)


class NoStream(WireError):
    """The request asks for a stream where `can_stream` says no."""

    status = 406
    message = "This request can't have a stream for a response: send it on its own, or ask for the whole as a stream."


def frame(number: int, payload: str) -> bytes:
    """Encode event `number`, whose payload is one line of ASCII JSON."""
    return f"id: {number}\ndata: {payload}\n\n".encode("ascii")


def read_cursor(text: str | None) -> int:
    """Return the number of the last event that a client has (`Last-Event-ID`); 0 without a valid one."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


async def frames(events: AsyncGenerator[NumberedEvent | None]) -> AsyncGenerator[bytes]:
    """Encode events; None, which stands for a time without events, becomes a comment line."""
    async with aclosing(events):
        async for event in events:
            yield HEARTBEAT if event is None else frame(*event)


def pusher(scope: Mapping[str, Any]) -> Push | None:
    """Return a function that sends events of a request's stream at once, without waking its task; else None.

    It sends nothing unless the stream is detached unchanged and the server supports it (`wire.asgi.detached.PUSH`).
    """
    stream = detached_stream(scope)
    return (lambda number, payload: stream.push(frame(number, payload))) if stream else None


class EventStreamResponse(StreamingHttpResponse):
    """A stream of frames that neither a proxy nor GZipMiddleware buffers.

    With the `scope` of its request it is detached from Django where the project uses `DetachedStreams`.
    """

    def __init__(self, frames: AsyncGenerator[bytes], scope: Mapping[str, Any] = NO_SCOPE) -> None:
        super().__init__(frames, content_type="text/event-stream")
        # A middleware may replace them with its own, and leaves it to the garbage collector to close these.
        self._frames = ref(frames)
        self._detached: DetachedStream | None = detached_stream(scope)
        self.headers["Cache-Control"] = "no-cache, no-transform"
        self.headers["X-Accel-Buffering"] = "no"
        # GZipMiddleware skips a response that has an encoding. Chromium shows a compressed stream only at its end.
        self.headers["Content-Encoding"] = "identity"

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield the frames and close them when the client leaves: Django closes only its own wrapper.

        The request's thread ends before.
        """
        iterator = self._iterator  # type: ignore[attr-defined]  # Django's own, or a middleware's
        if self._detached and isinstance(iterator, AsyncGenerator):
            self._detached.detach(iterator, unchanged=iterator is self._frames())
            return
        release_thread()
        async with aclosing(iterator) as parts:
            async for part in parts:
                yield part
