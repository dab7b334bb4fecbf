"""The rows of background batches: the one place where their items change state.

An item is claimed by a conditional update that increments its fence, and finished by one that names the fence: a
process whose lease has expired changes nothing any more. A transaction touches items before batches, so that no two
wait for each other. The counts of a batch are written with its items, and close it when no item is left.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import connections, router, transaction
from django.db.models import F, FloatField, Value
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from batching.background.fairness import RoundRobin
from batching.items.item import Item, ItemResponse
from batching.models import RETRY_LIFETIME, Batch, BatchItem
from batching.records.record import ITEM_RESPONSE_COLUMNS, ITEMS, Record
from batching.records.writer import notify
from batching.run import identity
from batching.run.identity import BackgroundCaller, CallerRevoked
from batching.signals import batch_finished, item_finished

CANCELLED = ItemResponse(503, error="Not started: the batch was cancelled")
EXPIRED = ItemResponse(504, error="Not started: the batch's time was over")

# Literals, so that SQLite sees that a partial index serves the query.
WAITING = """
    SELECT caller, id, priority FROM (
        SELECT id, caller, priority,
            ROW_NUMBER() OVER (PARTITION BY caller ORDER BY priority DESC, created_at, id) AS place
        FROM batching_batch
        WHERE finished_at IS NULL AND expires_at > %s AND status IN ('queued', 'running') AND EXISTS (
            SELECT 1 FROM batching_batchitem AS item
            WHERE item.batch_id = batching_batch.id AND item.state = 'queued' AND item.not_before <= %s
        )
    ) AS batch WHERE place <= %s ORDER BY place
"""
RUNNING = """
    SELECT batch.caller, COUNT(*) FROM batching_batchitem AS item
    JOIN batching_batch AS batch ON batch.id = item.batch_id
    WHERE item.lease_expires_at IS NOT NULL GROUP BY batch.caller
"""
CLAIM = """
    WITH chosen AS (
        SELECT id AS chosen_id FROM batching_batchitem
        WHERE batch_id = %s AND state = 'queued' AND not_before <= %s
        ORDER BY not_before, position LIMIT %s {skip_locked}
    )
    UPDATE batching_batchitem
    SET state = 'running', fence = fence + 1, attempts = attempts + 1, started_at = %s, lease_expires_at = %s
    FROM chosen WHERE id = chosen_id AND state = 'queued'
    RETURNING id, position, fence, attempts, truncated, call
"""
RENEW = """
    UPDATE batching_batchitem SET lease_expires_at = %s
    WHERE state = 'running' AND (id, fence) IN (VALUES {pairs})
"""
RELEASE = """
    UPDATE batching_batchitem
    SET state = 'queued', lease_expires_at = NULL, started_at = NULL, not_before = %s, attempts = attempts - %s
    WHERE id = %s AND fence = %s AND state = 'running'
"""
HELD = "state = 'running'"


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at an item, which this process may execute while its lease lasts. `caller` is None if revoked.

    `number` counts the attempts at the item from 1; `stored_request` is for `ItemRequest.load`.
    """

    id: int
    batch: Batch
    caller: BackgroundCaller | None
    position: int
    fence: int
    number: int
    truncated: bool
    stored_request: str


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt; `started` and `finished` are monotonic, `started_at` is the moment of `started`."""

    attempt: Attempt
    response: ItemResponse
    started: float = 0.0
    finished: float = 0.0
    started_at: datetime = field(default_factory=timezone.now)
    timed_out: bool = False

    def values(self, room: int) -> list[Any]:
        attempt = self.attempt
        item = Item(attempt.position, None, None, response=self.response, started=self.started, finished=self.finished)
        record = Record(attempt.batch, [item], began=self.started, room=room, began_at=self.started_at)
        if attempt.truncated:
            record.truncated.add(item)
        return record.response_values(item)[: len(ITEM_RESPONSE_COLUMNS)]


def connection() -> Any:
    return connections[router.db_for_write(BatchItem)]


def adapt(moment: datetime) -> Any:
    return connection().ops.adapt_datetimefield_value(moment)


def fetch(sql: str, *values: Any) -> list[Any]:
    with connection().cursor() as cursor:
        cursor.execute(sql, [adapt(value) if isinstance(value, datetime) else value for value in values])
        return list(cursor.fetchall())


def update(sql: str, *values: Any) -> int:
    with connection().cursor() as cursor:
        cursor.execute(sql, [adapt(value) if isinstance(value, datetime) else value for value in values])
        return int(cursor.rowcount)


def atomic() -> Any:
    return transaction.atomic(using=router.db_for_write(BatchItem))


# Claiming.


def claim(count: int, lease: float, callers: RoundRobin) -> list[Attempt]:
    """Claim up to so many items for `lease` seconds."""
    now = timezone.now()
    waiting = fetch(WAITING, now, now, count)
    if not waiting:
        return []
    best: dict[str, int] = {}
    for caller, _, priority in waiting:
        best.setdefault(caller, priority)
    shares = callers.share(count, best, dict(fetch(RUNNING)))
    attempts: list[Attempt] = []
    for caller, batch_id, _ in waiting:
        if shares.get(caller):
            claimed = claim_from(batch_id, shares[caller], now, lease)
            shares[caller] -= len(claimed)
            attempts += claimed
    return attempts


def claim_from(batch_id: str, count: int, now: datetime, lease: float) -> list[Attempt]:
    skip_locked = "FOR UPDATE SKIP LOCKED" if connection().features.has_select_for_update_skip_locked else ""
    with atomic():
        rows = fetch(CLAIM.format(skip_locked=skip_locked), batch_id, now, count, now, now + timedelta(seconds=lease))
        Batch.objects.filter(pk=batch_id, status=Batch.Status.QUEUED).update(
            status=Batch.Status.RUNNING, started_at=now
        )
        batch = Batch.objects.select_related("owner").filter(pk=batch_id).first()
        if batch is None:  # it was deleted, and its items with it
            return []
        caller = load_caller(batch)
    return [
        Attempt(item_id, batch, caller, position, fence, number, bool(truncated), stored_request)
        for item_id, position, fence, number, truncated, stored_request in sorted(rows, key=lambda row: row[1])
    ]


def load_caller(batch: Batch) -> BackgroundCaller | None:
    with suppress(CallerRevoked):
        return identity.load(batch)
    return None


def renew(attempts: Sequence[Attempt], lease: float) -> int:
    """Renew the leases that this process still holds; return how many."""
    if not attempts:
        return 0
    pairs = ", ".join(["(%s, %s)"] * len(attempts))
    values = [value for attempt in attempts for value in (attempt.id, attempt.fence)]
    return update(RENEW.format(pairs=pairs), timezone.now() + timedelta(seconds=lease), *values)


# Finishing.


def finish(results: Sequence[AttemptResult], room: int) -> int:
    """Write the results of attempts and close batches with no item left; return how many leases still held.

    The request of an item that failed is kept for a retry.
    """
    with atomic():
        written = [result for result in results if finish_one(result, room)]
        by_batch: dict[str, list[AttemptResult]] = {}
        for result in written:
            by_batch.setdefault(result.attempt.batch.pk, []).append(result)
        for batch_id in sorted(by_batch):
            add_counts(batch_id, by_batch[batch_id])
        closed = close(sorted(by_batch))
    send_signals([result.attempt.id for result in written], closed)
    return len(written)


def finish_one(result: AttemptResult, room: int) -> bool:
    attempt = result.attempt
    stored_request = None if result.response.succeeded else attempt.stored_request
    values = [*result.values(room), stored_request, None, attempt.id, attempt.fence]
    return ITEMS.finish_one((*ITEM_RESPONSE_COLUMNS, "call", "lease_expires_at"), ("id", "fence"), HELD, values)


def add_counts(batch_id: str, results: Sequence[AttemptResult]) -> None:
    succeeded = sum(result.response.succeeded for result in results)
    longest = max(result.finished - result.started for result in results)
    slowest = Greatest(Coalesce("slowest", 0.0, output_field=FloatField()), Value(longest, output_field=FloatField()))
    Batch.objects.filter(pk=batch_id).update(
        succeeded=F("succeeded") + succeeded, failed=F("failed") + len(results) - succeeded, slowest=slowest
    )


def close(batch_ids: Iterable[str]) -> list[Batch]:
    """Close the batches that have no item left, and return them; the transaction holds their rows."""
    now = timezone.now()
    closed = []
    for batch in Batch.objects.filter(pk__in=batch_ids, finished_at=None):
        if batch.left == 0 and batch.status != Batch.Status.RECEIVING:
            batch.status = final_status(batch)
            batch.finished_at = now
            batch.duration = (now - batch.created_at).total_seconds()
            batch.retry_before = now + RETRY_LIFETIME if batch.failed or batch.expired else None
            batch.save(update_fields=["status", "finished_at", "duration", "retry_before"])
            closed.append(batch)
    return closed


def final_status(batch: Batch) -> Batch.Status:
    if batch.status == Batch.Status.CANCELLING:
        return Batch.Status.CANCELLED
    return Batch.Status.EXPIRED if batch.expired else Batch.Status.COMPLETED


def release(attempt: Attempt, not_before: datetime, *, counts: bool) -> bool:
    """Put an item back into the queue; `counts` tells whether the attempt counts."""
    return update(RELEASE, not_before, 0 if counts else 1, attempt.id, attempt.fence) == 1


def send_signals(item_ids: Sequence[int], closed: Sequence[Batch]) -> None:
    """Send the signals, in their own thread."""
    if item_ids and item_finished.has_listeners(BatchItem):
        notify(partial(send_item_finished, item_ids))
    for batch in closed:
        if batch_finished.has_listeners(Batch):
            notify(partial(send_batch_finished, batch))


def send_batch_finished(batch: Batch) -> None:
    batch_finished.send_robust(Batch, batch=batch)


def send_item_finished(item_ids: Sequence[int]) -> None:
    for item in BatchItem.objects.filter(pk__in=item_ids).defer("call").select_related("batch"):
        item_finished.send_robust(BatchItem, batch=item.batch, item=item)


# Ending items that haven't started.


def cancel(batch: Batch) -> None:
    """Start no more items of a batch; those that have started may end. A second call changes nothing."""
    stoppable = (Batch.Status.QUEUED, Batch.Status.RUNNING)
    Batch.objects.filter(pk=batch.pk, status__in=stoppable).update(status=Batch.Status.CANCELLING)
    drop_cancelled(batch.pk)


def drop_cancelled(batch_id: str) -> None:
    drop(batch_id, BatchItem.State.CANCELLED, CANCELLED, status=Batch.Status.CANCELLING)


def drop_expired(batch_id: str) -> None:
    open_ones = (Batch.Status.QUEUED, Batch.Status.RUNNING)
    drop(batch_id, BatchItem.State.EXPIRED, EXPIRED, status__in=open_ones, expires_at__lte=timezone.now())


def drop(batch_id: str, state: BatchItem.State, response: ItemResponse, **condition: Any) -> None:
    """End the waiting items of a batch for which `condition` holds."""
    fields = {} if state == BatchItem.State.EXPIRED else {"call": None}
    with atomic():
        ids = Batch.objects.filter(pk=batch_id, **condition).values("pk")
        dropped = BatchItem.objects.filter(batch__in=ids, state=BatchItem.State.QUEUED).update(
            state=state,
            status=response.status,
            error=response.error,
            finished_at=timezone.now(),
            duration=0.0,
            **fields,
        )
        name = "expired" if state == BatchItem.State.EXPIRED else "cancelled"
        Batch.objects.filter(pk=batch_id).update(**{name: F(name) + dropped})
        closed = close([batch_id])
    send_signals([], closed)
