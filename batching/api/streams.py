"""The stream of a batch: `start`, a `response` for each item as soon as it has ended, `end`.

Where an item's response is an event stream itself, each of its events comes as `{"type": "item", "id", "event"}` before
the item's `response`, whose body is the last of them. The last event of all is `end`, or `error` where the batch itself
fails or its process stops.
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
from batching.run.executor import BatchExecutor
from wire.api.sse import EventSource, EventStreamResponse, frame, frames
from wire.asgi import draining
from wire.errors import SENTENCES

logger = logging.getLogger(__name__)

EVENTS, LINES = "text/event-stream", "application/x-ndjson"
INTERRUPTED = "The service stopped while the batch was running."

# The tasks of streams that haven't ended; the event loop itself holds them only weakly.
stream_tasks: set[asyncio.Task[None]] = set()


def line(number: int, payload: str) -> bytes:
    """Encode an event as a line of NDJSON."""
    return f"{payload}\n".encode("ascii")


async def lines(source: EventSource) -> AsyncGenerator[bytes]:
    """Encode events as NDJSON, which has no heartbeat."""
    async with aclosing(source(None)) as events:
        async for event in events:
            if event:
                yield line(*event)


ENCODINGS: dict[str, Callable[[int, str], bytes]] = {EVENTS: frame, LINES: line}
STREAM_ENCODINGS = {EVENTS: frames, LINES: lines}


class BatchStream:
    """The parts of a streamed batch, which runs while they are read and is cancelled when its reader leaves."""

    def __init__(self, executor: BatchExecutor, events: EventQueue, record: Record, media_type: str) -> None:
        self._executor = executor
        self._events = events
        self._record = record
        self._encode = STREAM_ENCODINGS[media_type]
        self._work: asyncio.Task[None] | None = None
        self._stopped = False
        self._interrupted = False

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        self._begin()
        try:
            async with aclosing(self._encode(lambda push: self._events.follow())) as parts:
                async for part in parts:
                    yield part
        finally:
            self._stop()

    def close(self) -> None:
        """Cancel the batch if its stream wasn't read to the end. Django calls this last, in any thread."""
        if self._work is None:
            self._executor.cancel()
            submission.close(self._record, Batch.Status.CANCELLED)
        elif not self._work.done():
            with suppress(RuntimeError):  # the loop has ended, and its tasks with it
                self._loop.call_soon_threadsafe(self._stop)

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        # A context of its own: the request's holds a thread that ends with the request.
        self._work = self._loop.create_task(self._run(), context=Context())
        stream_tasks.add(self._work)
        self._work.add_done_callback(stream_tasks.discard)
        draining.expired.add_callback(self._interrupt)
        self._work.add_done_callback(lambda _: draining.expired.remove_callback(self._interrupt))

    def _stop(self) -> None:
        if self._work and not self._stopped:
            self._stopped = True
            self._work.cancel()

    def _interrupt(self) -> None:
        """End the batch because its process stops: unsettled items get an error, then comes the last event."""
        self._interrupted = True
        self._executor.cancel("the service stopped")
        self._stop()

    async def _run(self) -> None:
        try:
            self._events.post({"type": "start", "batch_id": self._record.batch.pk, "total": self._record.batch.total})
            await self._execute()
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

    async def _execute(self) -> None:
        """Execute the batch and close its rows."""
        try:
            in_time = await self._executor.run()
        except asyncio.CancelledError:
            status = Batch.Status.INTERRUPTED if self._interrupted else Batch.Status.CANCELLED
            submission.close_later(self._record, status)
            raise
        closing = submission.close_later(self._record, submission.final_status(in_time))
        await wait_for(closing, submission.patience(self._executor))


async def wait_for(closing: Future[None], seconds: float) -> None:
    """Wait for work in a thread, at most so long; the work goes on."""
    await asyncio.wait([asyncio.shield(asyncio.wrap_future(closing))], timeout=seconds)


class BlockingStream:
    """The same for a WSGI server."""

    def __init__(self, stream: BatchStream) -> None:
        self.close = stream.close
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return event_loop.blocking(aiter(self._stream))


def live(stream: BatchStream, media_type: str, *, is_asgi: bool) -> EventStreamResponse:
    # The stream itself, not its iterator: Django closes it with the response.
    response = EventStreamResponse(cast(Any, stream if is_asgi else BlockingStream(stream)))
    response.headers["Content-Type"] = media_type
    return response


def replay(batch: Batch, media_type: str) -> HttpResponse:
    """Return the events of a batch that has ended."""
    start = {"type": "start", "batch_id": batch.pk, "total": batch.total}
    responses = [{"type": "response", **submission.represent_row(row)} for row in batch.items.all()]
    end = {"type": "end", "batch_id": batch.pk, **submission.totals(batch)}
    events = [json.dumps(event) for event in (start, *responses, end)]
    encode = ENCODINGS[media_type]
    parts = [encode(number, event) for number, event in enumerate(events, start=1)]
    return HttpResponse(b"".join(parts), content_type=media_type, headers={"Cache-Control": "no-cache, no-transform"})
