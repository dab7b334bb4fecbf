"""The progress and the results of a background batch, read from its rows in any process."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from django.db.models import F, QuerySet, TextField, Value
from django.db.models.functions import Cast, Coalesce, Length

from batching.models import Batch, BatchItem
from batching.run import event_loop, submission
from wire.api.sse import EventStreamResponse, NumberedEvent, or_heartbeat
from wire.asgi import draining
from wire.asgi.threads import Pool
from wire.errors import DATABASE_AWAY, NoDatabase, WireError

logger = logging.getLogger(__name__)

# Seconds between two reads of a batch.
PACE = 0.5
# Items of one read, and characters of their bodies.
SLICE = 250
SLICE_CHARS = 8_000_000

READERS = Pool(2, "batch-readers")

RESULTS = (BatchItem.State.SUCCEEDED, BatchItem.State.FAILED, BatchItem.State.CANCELLED, BatchItem.State.EXPIRED)


async def read[T](work: Callable[[], T]) -> T:
    """Read rows in a thread."""
    return await asyncio.get_running_loop().run_in_executor(READERS, work)


def represent(batch: Batch) -> dict[str, Any]:
    return {"batch_id": batch.pk, "status": batch.status, "counts": batch.counts}


async def events(batch_id: str) -> AsyncGenerator[NumberedEvent | None]:
    """Yield `start`, a `progress` whenever the counts have changed, and `end`; None where a heartbeat is due.

    Where the process stops or loses the database, the last event is an `error` that may be retried.
    """
    number, last = 0, None
    with suppress(Batch.DoesNotExist):  # it was deleted
        while True:
            change = await or_heartbeat(partial(next_change, batch_id, last))
            if change is None:
                yield None
                continue
            number += 1
            if isinstance(change, WireError):
                yield number, event("error", error_fields(change))
                return
            last, is_final = change
            yield number, event("start" if number == 1 else "end" if is_final else "progress", last)
            if is_final and number > 1:
                return


type Snapshot = tuple[dict[str, Any], bool]


async def next_change(batch_id: str, last: dict[str, Any] | None) -> Snapshot | WireError:
    """Wait until a batch differs from `last` or has ended. Raises `Batch.DoesNotExist`."""
    while True:
        try:
            snapshot = await read(partial(take_snapshot, batch_id))
        except DATABASE_AWAY:
            logger.warning("batch=%s state=not_readable", batch_id, exc_info=True)
            return NoDatabase()
        represented, is_final = snapshot
        if represented != last or is_final:
            return snapshot
        if draining.started.is_set:  # the client comes back to another process
            return draining.Stopping()
        await asyncio.sleep(PACE)


def take_snapshot(batch_id: str) -> Snapshot:
    """Return a batch as its client sees it, and whether it has ended."""
    batch = Batch.objects.get(pk=batch_id)
    return represent(batch), batch.finished_at is not None


def event(kind: str, fields: dict[str, Any]) -> str:
    return json.dumps({"type": kind, **fields})


def error_fields(error: WireError) -> dict[str, Any]:
    return {"message": error.message, "code": error.status, "retryable": error.retryable}


async def results(batch_id: str, state: str | None, after: int) -> AsyncGenerator[bytes]:
    """Yield a line for each item that has ended, by position, after a position."""
    while rows := await read(partial(lines, batch_id, state, after)):
        after = rows[-1][0]
        yield b"".join(line for _, line in rows)


def lines(batch_id: str, state: str | None, after: int) -> list[tuple[int, bytes]]:
    rows = BatchItem.objects.filter(batch=batch_id, position__gt=after, finished_at__isnull=False)
    if state:
        rows = rows.filter(state=state)
    unused = ("call", "request_headers", "request_body", "depends_on", "path")
    return [(row.position, line(row)) for row in first_slice(rows).defer(*unused)]


def first_slice(rows: QuerySet[BatchItem]) -> QuerySet[BatchItem]:
    """Return the first items by position: at least one, and as many as the bounds of a slice allow."""
    sizes = rows.order_by("position").annotate(length=length("response_body") + length("details"))
    last, total = -1, 0
    for position, size in sizes.values_list("position", "length")[:SLICE]:
        total += size
        if last >= 0 and total > SLICE_CHARS:
            break
        last = position
    return rows.filter(position__lte=last).order_by("position")


def length(column: str) -> Coalesce:
    """Return the length of a column's JSON, by the database."""
    return Coalesce(Length(Cast(F(column), TextField())), Value(0))


def line(row: BatchItem) -> bytes:
    return json.dumps({"position": row.position, **submission.represent_row(row), "state": row.state}).encode() + b"\n"


def response(parts: AsyncGenerator[bytes], media_type: str, *, is_asgi: bool) -> EventStreamResponse:
    """Return a stream as a response; `is_asgi` tells whether the server has an event loop."""
    streamed = EventStreamResponse(parts if is_asgi else cast(Any, event_loop.blocking(parts)))
    streamed.headers["Content-Type"] = media_type
    return streamed
