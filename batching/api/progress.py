"""A background batch as it is watched and read while it runs, in any process: the rows say how far it is."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, cast

from batching.models import Batch, BatchItem
from batching.run import event_loop, submission
from wire.api.sse import HEARTBEAT, HEARTBEAT_SECONDS, EventStreamResponse, frame
from wire.asgi import draining
from wire.asgi.threads import Pool
from wire.errors import DATABASE_AWAY, NoDatabase, WireError

logger = logging.getLogger(__name__)

# Seconds between two looks at a batch.
PACE = 0.5
# Items that are read at once: their bodies may be long.
SLICE = 250

READERS = Pool(2, "batch-readers")

RESULTS = (BatchItem.State.SUCCEEDED, BatchItem.State.FAILED, BatchItem.State.CANCELLED, BatchItem.State.EXPIRED)


async def read[T](work: Callable[[], T]) -> T:
    """Read rows in a thread."""
    return await asyncio.get_running_loop().run_in_executor(READERS, work)


def represent(batch: Batch) -> dict[str, Any]:
    return {"batch_id": batch.pk, "status": batch.status, "counts": batch.counts}


def seen(batch_id: str) -> tuple[dict[str, Any], bool] | None:
    """Return what there is to see of a batch, and whether that is its end; None where it was deleted."""
    batch = Batch.objects.filter(pk=batch_id).first()
    return (represent(batch), batch.finished_at is not None) if batch else None


async def events(batch_id: str) -> AsyncGenerator[bytes]:
    """Yield `start`, a `progress` whenever the counts have changed, and `end`; comments where nothing happens long.

    Where the process is told to stop or loses the database, the last one is an `error` that may be retried.
    """
    number, last, quiet = 0, None, 0.0
    while looked := await look(batch_id):
        if isinstance(looked, WireError):
            yield framed(number + 1, "error", last_word(looked))
            return
        now, is_final = looked
        if now != last or is_final:
            number, last, quiet = number + 1, now, 0.0
            yield framed(number, "start" if number == 1 else "end" if is_final else "progress", now)
            if is_final and number > 1:
                return
            continue
        if draining.started.is_set:  # another process goes on to tell
            yield framed(number + 1, "error", last_word(draining.Stopping()))
            return
        await asyncio.sleep(PACE)
        quiet += PACE
        if quiet >= HEARTBEAT_SECONDS:
            quiet = 0.0
            yield HEARTBEAT


async def look(batch_id: str) -> tuple[dict[str, Any], bool] | NoDatabase | None:
    """Return what is `seen` of a batch, or that it can't be seen now."""
    try:
        return await read(partial(seen, batch_id))
    except DATABASE_AWAY:
        logger.warning("batch=%s state=not_seen", batch_id, exc_info=True)
        return NoDatabase()


def last_word(error: WireError) -> dict[str, Any]:
    return {"message": error.message, "code": error.status, "retryable": error.retryable}


def framed(number: int, kind: str, state: dict[str, Any]) -> bytes:
    return frame(number, json.dumps({"type": kind, **state}))


async def results(batch_id: str, state: str | None, after: int) -> AsyncGenerator[bytes]:
    """Yield a line for each item that has ended, in their order, from after a position on."""
    while found := await read(partial(lines, batch_id, state, after)):
        after = found[-1][0]
        yield b"".join(line for _, line in found)


def lines(batch_id: str, state: str | None, after: int) -> list[tuple[int, bytes]]:
    rows = BatchItem.objects.filter(batch=batch_id, position__gt=after, finished_at__isnull=False)
    if state:
        rows = rows.filter(state=state)
    unneeded = ("call", "request_headers", "request_body", "depends_on", "path")
    return [(row.position, line(row)) for row in rows.defer(*unneeded).order_by("position")[:SLICE]]


def line(row: BatchItem) -> bytes:
    return json.dumps({"position": row.position, **submission.stored(row), "state": row.state}).encode() + b"\n"


def response(parts: AsyncGenerator[bytes], media_type: str, *, in_server: bool) -> EventStreamResponse:
    """Return the response that carries a stream; `in_server` tells whether the server has an event loop (ASGI)."""
    made = EventStreamResponse(parts if in_server else cast(Any, event_loop.blocking(parts)))
    made.headers["Content-Type"] = media_type
    return made
