"""A batch from its call to its response: its rows, its execution, and the replay of an Idempotency-Key."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import DatabaseError, IntegrityError

from batching.conf import BatchingSettings
from batching.errors import NotRecorded, StillRunning
from batching.items.item import Item, ItemResponse, represent
from batching.models import Batch, BatchItem
from batching.records import writer
from batching.records.masking import restore
from batching.records.record import Record
from batching.run import event_loop
from batching.run.executor import BatchExecutor
from wire.api.callers import Caller, caller_name
from wire.api.idempotency import refuse_reuse, rows_of_key

logger = logging.getLogger(__name__)

# Seconds that the response to a batch that timed out waits for its rows: an item may hold the database.
PATIENCE = 0.25


@dataclass(frozen=True, slots=True)
class Submission:
    """The call of a batch. `began` is the monotonic moment at which it came."""

    caller: Caller
    data: Any
    items: Sequence[Item]
    began: float
    idempotency_key: str | None = None
    request_id: str = ""
    client_address: str = ""

    @property
    def hash(self) -> str:
        """Return a hash of the body, where an Idempotency-Key makes it matter."""
        if self.idempotency_key is None:
            return ""
        return hashlib.sha256(json.dumps(self.data, sort_keys=True).encode()).hexdigest()

    @property
    def caller_name(self) -> str:
        return caller_name(self.caller)


def begin(submission: Submission, settings: BatchingSettings) -> Record | Batch:
    """Write the rows of a batch and return its record; or the finished batch that its Idempotency-Key replays.

    Raises `StillRunning`, `KeyReused` and `NotRecorded`, and then nothing may run.
    """
    if batch := find_replay(submission):
        return batch
    room = settings.BATCH_STORED_BODY_BYTES
    record = Record(batch_for(submission), submission.items, began=submission.began, room=room)
    deadline = submission.began + settings.BATCH_TIMEOUT
    try:
        writer.write(partial(record.open, settings.BATCH_TIMEOUT), seconds_until(deadline))
    except TimeoutError as error:
        record.abandoned = True
        raise NotRecorded from error
    except IntegrityError:
        if batch := find_replay(submission):
            return batch
        raise
    except DatabaseError as error:
        raise NotRecorded from error
    return record


def batch_for(submission: Submission) -> Batch:
    return Batch(
        owner_id=submission.caller.pk,
        caller=submission.caller_name,
        total=len(submission.items),
        request_id=submission.request_id,
        client_address=submission.client_address,
        idempotency_key=submission.idempotency_key,
        request_hash=submission.hash,
    )


def find_replay(submission: Submission) -> Batch | None:
    """Return the finished batch of the caller's Idempotency-Key, if there is one."""
    if submission.idempotency_key is None:
        return None
    rows = rows_of_key(Batch.objects.all(), submission.caller_name, submission.idempotency_key, since="finished_at")
    rows.abandoned().interrupt()
    batch: Batch | None = rows.first()
    if batch:
        refuse_reuse(batch, submission.hash)
        if batch.status in Batch.OPEN:
            raise StillRunning
    return batch


def execute(executor: BatchExecutor, record: Record, *, is_asgi: bool) -> None:
    """Execute a batch and close its rows, also where the call is cancelled."""
    try:
        in_time = event_loop.wait(executor.run, is_asgi=is_asgi)
    except BaseException:  # the client went away, or the process stops
        close(record, Batch.Status.CANCELLED)
        raise
    close(record, final_status(in_time), patience(executor))


def final_status(in_time: bool) -> Batch.Status:
    return Batch.Status.COMPLETED if in_time else Batch.Status.EXPIRED


def patience(executor: BatchExecutor) -> float:
    """Return how many seconds the response may wait for its rows: until the deadline, or a little."""
    return max(PATIENCE, seconds_until(executor.deadline))


def seconds_until(moment: float) -> float:
    return moment - time.monotonic()


def close(record: Record, status: Batch.Status, seconds: float = PATIENCE) -> None:
    """Close the rows, waiting at most so long; the caller gets the responses even if they can't be stored."""
    record.end(status)
    with suppress(DatabaseError, TimeoutError):
        writer.write(partial(write_end, record), seconds)


def close_later(record: Record, status: Batch.Status) -> Future[None]:
    """Close the rows without waiting for it."""
    record.end(status)
    return writer.submit(partial(write_end, record))


def write_end(record: Record) -> None:
    try:
        record.close()
    except DatabaseError:
        logger.exception("batch=%s state=not_stored", record.batch.pk)
        raise


# The envelope, of a batch that has just ended or of one that is replayed.


def envelope(record: Record) -> dict[str, Any]:
    responses = [item.represent() for item in record.items]
    return {"batch_id": record.batch.pk, "responses": responses, **totals(record.batch)}


def stored_envelope(batch: Batch) -> dict[str, Any]:
    return {"batch_id": batch.pk, "responses": [represent_row(row) for row in batch.items.all()], **totals(batch)}


def totals(batch: Batch) -> dict[str, Any]:
    return {"total_processing_time": batch.duration, "counts": batch.counts}


def represent_row(row: BatchItem) -> dict[str, Any]:
    """Return an item as the envelope held it."""
    response = ItemResponse(
        status=row.status or 503,
        body=restore(row.response_body),
        error=restore(row.error),
        details=restore(row.details),
        headers=row.response_headers,
        encoding=row.encoding,
    )
    return represent(id_of(row), response, row.duration or 0.0)


def id_of(row: BatchItem) -> Any:
    """Return an item's id as the caller gave it."""
    return row.given_id if row.given_id is not None else row.item_id or None
