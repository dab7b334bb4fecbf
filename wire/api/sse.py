"""Server-sent events: frames, their cursor, and the response that streams them.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html. A frame is ASCII (some clients split lines
at U+2028) and is written in one piece, so that a client that parses each network chunk on its own works.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from weakref import ref

from django.http import StreamingHttpResponse

from wire.asgi.detached import DetachedStream
from wire.asgi.threads import release_thread
from wire.errors import WireError

# An event's number, from 1, and its payload.
NumberedEvent = tuple[int, str]
# Sends an event, given as its number and its payload, at once and returns True; returns False where it can't.
Push = Callable[[int, str], bool]
# Yields events, but for those that the function it is given sends.
EventSource = Callable[[Push | None], AsyncGenerator[NumberedEvent | None]]

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = b": keep-alive\n\n"

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


async def or_heartbeat[T](next_event: Callable[[], Awaitable[T]]) -> T | None:
    """Return the next event; None once a heartbeat is due, and then `next_event` is cancelled."""
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            return await next_event()
    except TimeoutError:
        return None


async def frames(source: EventSource, stream: DetachedStream | None = None) -> AsyncGenerator[bytes]:
    """Encode events; None, which stands for a time without events, becomes a comment line.

    This decides, before the first event, whether events are pushed to the connection or pulled through this generator.
    They are pushed where the server sends parts at once and these frames are what it sends (`DetachedStream.push`). An
    event that can't be pushed at the moment, as when the client is behind, is pulled.
    """
    send = stream.push if stream else None
    push: Push | None = send and (lambda number, payload: send(frame(number, payload)))
    async with aclosing(source(push)) as events:
        async for event in events:
            yield HEARTBEAT if event is None else frame(*event)


class HeartbeatTimer:
    """Calls `beat` after `seconds` in which it wasn't restarted, and stands still until it is.

    One for all waits of a stream: a timer for each wait would cost as much as sending an event.
    """

    __slots__ = ("_beat", "_loop", "_seconds", "_timer", "since")

    def __init__(self, beat: Callable[[], None], seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat, self._seconds = beat, seconds
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.since = 0.0
        """The moment that the seconds count from, by the event loop's clock; may be set while the timer runs."""

    def restart(self) -> None:
        """Count from now on."""
        self.since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._check)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _check(self) -> None:
        self._timer = None
        left = self.since + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._beat()


class EventStreamResponse(StreamingHttpResponse):
    """A stream of frames that neither a proxy nor GZipMiddleware buffers.

    With the `stream` of its request it is detached from Django.
    """

    def __init__(self, frames: AsyncGenerator[bytes], stream: DetachedStream | None = None) -> None:
        super().__init__(frames, content_type="text/event-stream")
        # A middleware may replace them with its own, and leaves it to the garbage collector to close these.
        self._frames = ref(frames)
        self._detached = stream
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
