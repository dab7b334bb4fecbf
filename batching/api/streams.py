"""A batch that is answered as a stream: `start`, a `response` for each item as soon as it is there, `end`.

Where an item is answered with an event stream itself, each of its events comes as `{"type": "item", "id", "event"}`
before its `response`, whose body is the last of them. The last event of all is `end`, or `error` where the batch itself
failed or its process stops.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from contextlib import aclosing, suppress
from contextvars import Context
from typing import Any, cast

from django.http import HttpResponse

from batching.models import Batch
from batching.records.record import Record
from batching.run import event_loop, submission
from batching.run.event_queue import EventQueue
from batching.run.executor import Execution
from wire.api.sse import EventStreamResponse, NumberedEvent, frame, frames
from wire.asgi import draining
from wire.errors import SENTENCES

logger = logging.getLogger(__name__)

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
INTERRUPTED = "The service stopped while the batch was running."

# The work of streams that have yet to end; held here, so that it isn't lost before it has.
working: set[asyncio.Task[None]] = set()


def line(number: int, payload: str) -> bytes:
    """Encode an event as a line of NDJSON."""
    return f"{payload}\n".encode("ascii")


async def lines(events: AsyncGenerator[NumberedEvent | None]) -> AsyncGenerator[bytes]:
    """Encode events as NDJSON, which has no heartbeat."""
    async with aclosing(events):
        async for event in events:
            if event:
                yield line(*event)


ENCODINGS: dict[str, Callable[[int, str], bytes]] = {EVENTS: frame, LINES: line}
STREAM_ENCODINGS = {EVENTS: frames, LINES: lines}


class BatchStream:
    """The parts of a streamed answer. The batch runs while they are read, and is called off when nobody reads on."""

    def __init__(self, execution: Execution, events: EventQueue, record: Record, media_type: str) -> None:
        self._execution = execution
        self._events = events
        self._record = record
        self._encode = STREAM_ENCODINGS[media_type]
        self._work: asyncio.Task[None] | None = None
        self._stopped = False
        self._interrupted = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        self._begin()
        try:
            async with aclosing(self._encode(self._events.follow())) as parts:
                async for part in parts:
                    yield part
        finally:
            self._stop()

    def close(self) -> None:
        """End the batch if its stream was never read, or not to its end. Django calls this last, in any thread."""
        if self._work is None:
            self._execution.call_off()
            submission.close(self._record, Batch.Status.CANCELLED)
        elif not self._work.done():
            with suppress(RuntimeError):  # the loop has ended, and its tasks with it
                self._loop.call_soon_threadsafe(self._stop)

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A context of its own: the request's holds a thread that ends with the request.
        self._work = self._loop.create_task(self._run(), context=Context())
        working.add(self._work)
        self._work.add_done_callback(working.discard)
        draining.over.call(self._interrupt)
        self._work.add_done_callback(lambda _: draining.over.forget(self._interrupt))

    def _stop(self) -> None:
        if self._work and not self._stopped:
            self._stopped = True
            self._work.cancel()

    def _interrupt(self) -> None:
        """End the batch because its process stops: what has no answer gets one, then comes the last event."""
        self._interrupted = True
        self._execution.call_off("the service stopped")
        self._stop()

    async def _run(self) -> None:
        try:
            self._events.post({"type": "start", "batch_id": self._record.batch.pk, "total": self._record.batch.total})
            await self._answer()
            self._events.post(
                {"type": "end", "batch_id": self._record.batch.pk, **submission.totals(self._record.batch)}
            )
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            self._events.post({"type": "error", "message": INTERRUPTED, "code": 503, "retryable": True})
        except Exception:  # a stream has a last event, whatever happens
            logger.exception("batch=%s state=crashed", self._record.batch.pk)
            self._events.post({"type": "error", "message": SENTENCES[500], "code": 500, "retryable": False})
        finally:
            self._events.close()

    async def _answer(self) -> None:
        """Run the batch and close its rows."""
        try:
            in_time = await self._execution.run()
        except asyncio.CancelledError:
            status = Batch.Status.INTERRUPTED if self._interrupted else Batch.Status.CANCELLED
            submission.close_aside(self._record, status)
            raise
        closing = submission.close_aside(self._record, submission.ended(in_time))
        await finished(closing, submission.patience(self._execution))


async def finished(closing: Future[None], seconds: float) -> None:
    """Wait for work in a thread, at most so long; it goes on whoever waits."""
    await asyncio.wait([asyncio.shield(asyncio.wrap_future(closing))], timeout=seconds)


class BlockingStream:
    """The same for a server that speaks WSGI."""

    def __init__(self, stream: BatchStream) -> None:
        self.close = stream.close
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return event_loop.blocking(aiter(self._stream))


def live(stream: BatchStream, media_type: str, *, in_server: bool) -> EventStreamResponse:
    """Return the response that carries a stream; `in_server` tells whether the server has an event loop (ASGI)."""
    # Given as it is, not as its iterator: Django closes it with the response.
    response = EventStreamResponse(cast(Any, stream if in_server else BlockingStream(stream)))
    response.headers["Content-Type"] = media_type
    return response


def replayed(batch: Batch, media_type: str) -> HttpResponse:
    """Return the events of a batch that has ended."""
    start = {"type": "start", "batch_id": batch.pk, "total": batch.total}
    responses = [{"type": "response", **submission.stored(row)} for row in batch.items.all()]
    end = {"type": "end", "batch_id": batch.pk, **submission.totals(batch)}
    events = [json.dumps(event) for event in (start, *responses, end)]
    encode = ENCODINGS[media_type]
    parts = [encode(number, event) for number, event in enumerate(events, start=1)]
    return HttpResponse(b"".join(parts), content_type=media_type, headers={"Cache-Control": "no-cache, no-transform"})
