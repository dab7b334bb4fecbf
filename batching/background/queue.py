"""The rows of background batches: the one place where their items change state.

An item is claimed by a conditional update that counts up its fence, and finished by one that names the fence: whoever
has lost his claim, because his lease was over, changes nothing any more. A transaction touches items before batches, so
that no two wait for each other. A batch's counts are written with its items, and close it when nothing is left.
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
from batching.records.record import ITEM_ENDED, ITEMS, Record
from batching.records.writer import notify
from batching.run import identity
from batching.run.identity import Gone, IdentifiedCaller
from batching.signals import batch_finished, item_finished

CANCELLED = ItemResponse(503, error="Not started: the batch was cancelled")
EXPIRED = ItemResponse(504, error="Not started: the batch's time was over")

# Literals where SQLite has to see that a partial index answers the question.
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
class Claimed:
    """An item that this process may carry out as long as its lease lasts. `caller` is None where he is gone."""

    id: int
    batch: Batch
    caller: IdentifiedCaller | None
    position: int
    fence: int
    attempts: int
    truncated: bool
    call: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a claimed item ended; `started` and `finished` are monotonic moments, `at` that of the day at `started`."""

    claimed: Claimed
    answer: ItemResponse
    started: float = 0.0
    finished: float = 0.0
    at: datetime = field(default_factory=timezone.now)
    timed_out: bool = False

    def values(self, room: int) -> list[Any]:
        item = Item(self.claimed.position, None, None, answer=self.answer, started=self.started, finished=self.finished)
        record = Record(self.claimed.batch, [item], began=self.started, room=room, began_at=self.at)
        if self.claimed.truncated:
            record.cut.add(item)
        return record.ended(item)[: len(ITEM_ENDED)]


def rows() -> Any:
    return connections[router.db_for_write(BatchItem)]


def adapted(moment: datetime) -> Any:
    return rows().ops.adapt_datetimefield_value(moment)


def fetched(sql: str, *values: Any) -> list[Any]:
    with rows().cursor() as cursor:
        cursor.execute(sql, [adapted(value) if isinstance(value, datetime) else value for value in values])
        return list(cursor.fetchall())


def changed(sql: str, *values: Any) -> int:
    with rows().cursor() as cursor:
        cursor.execute(sql, [adapted(value) if isinstance(value, datetime) else value for value in values])
        return int(cursor.rowcount)


def atomic() -> Any:
    return transaction.atomic(using=router.db_for_write(BatchItem))


# Claiming, by turns.


def claim(places: int, lease: float, turns: RoundRobin) -> list[Claimed]:
    """Claim up to so many items for `lease` seconds."""
    now = timezone.now()
    waiting = fetched(WAITING, now, now, places)
    if not waiting:
        return []
    best: dict[str, int] = {}
    for caller, _, priority in waiting:
        best.setdefault(caller, priority)
    dealt = turns.deal(places, best, dict(fetched(RUNNING)))
    claimed: list[Claimed] = []
    for caller, batch_id, _ in waiting:
        if dealt.get(caller):
            found = claim_of(batch_id, dealt[caller], now, lease)
            dealt[caller] -= len(found)
            claimed += found
    return claimed


def claim_of(batch_id: str, places: int, now: datetime, lease: float) -> list[Claimed]:
    skip_locked = "FOR UPDATE SKIP LOCKED" if rows().features.has_select_for_update_skip_locked else ""
    with atomic():
        found = fetched(
            CLAIM.format(skip_locked=skip_locked), batch_id, now, places, now, now + timedelta(seconds=lease)
        )
        Batch.objects.filter(pk=batch_id, status=Batch.Status.QUEUED).update(
            status=Batch.Status.RUNNING, started_at=now
        )
        batch = Batch.objects.select_related("owner").get(pk=batch_id)
        caller = caller_of(batch)
    return [
        Claimed(item_id, batch, caller, position, fence, attempts, bool(truncated), call)
        for item_id, position, fence, attempts, truncated, call in sorted(found, key=lambda row: row[1])
    ]


def caller_of(batch: Batch) -> IdentifiedCaller | None:
    with suppress(Gone):
        return identity.caller_of(batch)
    return None


def renew(held: Sequence[Claimed], lease: float) -> int:
    """Prolong the leases of what this process still holds; returns of how many."""
    if not held:
        return 0
    pairs = ", ".join(["(%s, %s)"] * len(held))
    values = [value for one in held for value in (one.id, one.fence)]
    return changed(RENEW.format(pairs=pairs), timezone.now() + timedelta(seconds=lease), *values)


# Ending.


def finish(endings: Sequence[Ending], room: int) -> int:
    """Write how items ended, and close batches that have nothing left; returns how many were still held.

    Of an item that failed the request is kept for a retry.
    """
    with atomic():
        won = [ending for ending in endings if finish_one(ending, room)]
        counted: dict[str, list[Ending]] = {}
        for ending in won:
            counted.setdefault(ending.claimed.batch.pk, []).append(ending)
        for batch_id in sorted(counted):
            count(batch_id, counted[batch_id])
        closed = close(sorted(counted))
    announce([ending.claimed.id for ending in won], closed)
    return len(won)


def finish_one(ending: Ending, room: int) -> bool:
    claimed = ending.claimed
    call = None if ending.answer.succeeded else claimed.call
    values = [*ending.values(room), call, None, claimed.id, claimed.fence]
    return ITEMS.finish_one((*ITEM_ENDED, "call", "lease_expires_at"), ("id", "fence"), HELD, values)


def count(batch_id: str, endings: Sequence[Ending]) -> None:
    succeeded = sum(ending.answer.succeeded for ending in endings)
    longest = max(ending.finished - ending.started for ending in endings)
    slowest = Greatest(Coalesce("slowest", 0.0, output_field=FloatField()), Value(longest, output_field=FloatField()))
    Batch.objects.filter(pk=batch_id).update(
        succeeded=F("succeeded") + succeeded, failed=F("failed") + len(endings) - succeeded, slowest=slowest
    )


def close(batch_ids: Iterable[str]) -> list[Batch]:
    """Close those of these batches, whose rows the transaction holds, that have nothing left; returns them."""
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


def release(claimed: Claimed, not_before: datetime, *, tried: bool) -> bool:
    """Put an item back into the queue; where it wasn't `tried`, the attempt doesn't count."""
    return changed(RELEASE, not_before, 0 if tried else 1, claimed.id, claimed.fence) == 1


def announce(item_ids: Sequence[int], closed: Sequence[Batch]) -> None:
    """Send the signals, in a thread for that."""
    if item_ids and item_finished.has_listeners(BatchItem):
        notify(partial(tell_of_items, item_ids))
    for batch in closed:
        if batch_finished.has_listeners(Batch):
            notify(partial(tell_of_batch, batch))


def tell_of_batch(batch: Batch) -> None:
    batch_finished.send_robust(Batch, batch=batch)


def tell_of_items(item_ids: Sequence[int]) -> None:
    for item in BatchItem.objects.filter(pk__in=item_ids).defer("call").select_related("batch"):
        item_finished.send_robust(BatchItem, batch=item.batch, item=item)


# What ends without being carried out.


def cancel(batch: Batch) -> None:
    """Start nothing more of a batch; what has started may end. A second call changes nothing."""
    stoppable = (Batch.Status.QUEUED, Batch.Status.RUNNING)
    Batch.objects.filter(pk=batch.pk, status__in=stoppable).update(status=Batch.Status.CANCELLING)
    drop_cancelled(batch.pk)


def drop_cancelled(batch_id: str) -> None:
    drop(batch_id, BatchItem.State.CANCELLED, CANCELLED, status=Batch.Status.CANCELLING)


def drop_expired(batch_id: str) -> None:
    open_ones = (Batch.Status.QUEUED, Batch.Status.RUNNING)
    drop(batch_id, BatchItem.State.EXPIRED, EXPIRED, status__in=open_ones, expires_at__lte=timezone.now())


def drop(batch_id: str, state: BatchItem.State, answer: ItemResponse, **still: Any) -> None:
    """End what waits in a batch that is `still` so."""
    kept = {} if state == BatchItem.State.EXPIRED else {"call": None}
    with atomic():
        ids = Batch.objects.filter(pk=batch_id, **still).values("pk")
        dropped = BatchItem.objects.filter(batch__in=ids, state=BatchItem.State.QUEUED).update(
            state=state, status=answer.status, error=answer.error, finished_at=timezone.now(), duration=0.0, **kept
        )
        name = "expired" if state == BatchItem.State.EXPIRED else "cancelled"
        Batch.objects.filter(pk=batch_id).update(**{name: F(name) + dropped})
        closed = close([batch_id])
    announce([], closed)
