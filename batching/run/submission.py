"""A batch from its call to its answer: its rows, its run, and what an Idempotency-Key stands for."""

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
from django.utils import timezone

from batching.conf import BatchingSettings
from batching.errors import NotRecorded, StillRunning
from batching.items.item import Item, ItemResponse, represent
from batching.models import KEY_LIFETIME, Batch, BatchItem
from batching.records import writer
from batching.records.record import Record
from batching.run import event_loop
from batching.run.executor import Execution
from wire.api.callers import Caller, caller_name
from wire.api.idempotency import KeyReused

logger = logging.getLogger(__name__)

# Seconds that the answer to a batch whose time is over waits for its rows: an item may hold the database.
PATIENCE = 0.25


@dataclass(frozen=True, slots=True)
class Submission:
    """What a caller asks. `began` is the monotonic moment at which it came."""

    caller: Caller
    data: Any
    items: Sequence[Item]
    began: float
    idempotency_key: str | None = None
    request_id: str = ""
    client_address: str = ""

    @property
    def hash(self) -> str:
        """Tell apart what one Idempotency-Key may not be used for."""
        if self.idempotency_key is None:
            return ""
        return hashlib.sha256(json.dumps(self.data, sort_keys=True).encode()).hexdigest()

    @property
    def caller_name(self) -> str:
        return caller_name(self.caller)


def begin(ask: Submission, settings: BatchingSettings) -> Record | Batch:
    """Write what is asked and return its record; or the finished batch that the caller's key stands for.

    Raises `StillRunning`, `KeyReused` and `NotRecorded`, and then nothing may run.
    """
    if known := replayed(ask):
        return known
    # The answers to a call with a key are kept whole: they are what the same call gets again.
    room = settings.BATCH_MAX_BYTES if ask.idempotency_key else settings.BATCH_STORED_BODY_BYTES
    record = Record(batch_of(ask), ask.items, began=ask.began, room=room)
    try:
        writer.write(partial(record.open, settings.BATCH_TIMEOUT), seconds_until(ask.began + settings.BATCH_TIMEOUT))
    except TimeoutError as error:
        record.given_up = True
        raise NotRecorded from error
    except IntegrityError:
        if known := replayed(ask):
            return known
        raise
    except DatabaseError as error:
        raise NotRecorded from error
    return record


def batch_of(ask: Submission) -> Batch:
    return Batch(
        owner_id=ask.caller.pk,
        caller=ask.caller_name,
        total=len(ask.items),
        request_id=ask.request_id,
        client_address=ask.client_address,
        idempotency_key=ask.idempotency_key,
        request_hash=ask.hash,
    )


def replayed(ask: Submission) -> Batch | None:
    """Return the finished batch that the caller's Idempotency-Key stands for, if there is one."""
    if ask.idempotency_key is None:
        return None
    keyed = Batch.objects.filter(caller=ask.caller_name, idempotency_key=ask.idempotency_key)
    keyed.filter(finished_at__lt=timezone.now() - KEY_LIFETIME).update(idempotency_key=None)
    keyed.abandoned().interrupt()
    known = keyed.first()
    if known and known.request_hash != ask.hash:
        raise KeyReused
    if known and known.status in Batch.OPEN:
        raise StillRunning
    return known


def answer(execution: Execution, record: Record, *, in_server: bool) -> None:
    """Run a batch to its end and close its rows, whatever becomes of the call."""
    try:
        in_time = event_loop.wait(execution.run, in_server=in_server)
    except BaseException:  # the client went away, or the process is told to end
        close(record, Batch.Status.CANCELLED)
        raise
    close(record, ended(in_time), patience(execution))


def ended(in_time: bool) -> Batch.Status:
    return Batch.Status.COMPLETED if in_time else Batch.Status.EXPIRED


def patience(execution: Execution) -> float:
    """Return how many seconds the answer may wait for its rows: until the batch's own time is over, and a little."""
    return max(PATIENCE, seconds_until(execution.deadline))


def seconds_until(moment: float) -> float:
    return moment - time.monotonic()


def close(record: Record, status: Batch.Status, seconds: float = PATIENCE) -> None:
    """Close the rows, waiting at most so long; the answers are the caller's even if they can't be stored."""
    record.end(status)
    with suppress(DatabaseError, TimeoutError):
        writer.write(partial(write_ending, record), seconds)


def close_aside(record: Record, status: Batch.Status) -> Future[None]:
    """Close the rows without waiting for it."""
    record.end(status)
    return writer.submit(partial(write_ending, record))


def write_ending(record: Record) -> None:
    try:
        record.close()
    except DatabaseError:
        logger.exception("batch=%s state=not_stored", record.batch.pk)
        raise


# The envelope, of a batch that has just been answered or of one that is replayed.


def envelope(record: Record) -> dict[str, Any]:
    responses = [item.represent() for item in record.items]
    batch = record.batch
    return {"batch_id": batch.pk, "responses": responses, **totals(batch)}


def stored_envelope(batch: Batch) -> dict[str, Any]:
    return {"batch_id": batch.pk, "responses": [stored(row) for row in batch.items.all()], **totals(batch)}


def totals(batch: Batch) -> dict[str, Any]:
    return {"total_processing_time": batch.duration, "counts": batch.counts}


def stored(row: BatchItem) -> dict[str, Any]:
    """Return an item as the envelope had it, credentials masked."""
    answer = ItemResponse(
        status=row.status or 503,
        body=row.response_body,
        error=row.error,
        details=row.details,
        headers=row.response_headers,
        encoding=row.encoding,
    )
    return represent(row.item_id or None, answer, row.duration or 0.0)
