"""The reaper: returns expired leases to the queue, and ends or deletes what is over.

Each process that executes background items runs it; two at once do no harm.
"""

from datetime import datetime
from typing import Any

from django.utils import timezone

from batching.background import queue
from batching.background.queue import RELEASE, Attempt, AttemptResult
from batching.items.item import ItemResponse
from batching.models import Batch, BatchItem
from batching.records.rows import SLICE

PROCESSES_DIED = ItemResponse(503, error="Gave up: the processes that worked on it died")


def sweep(*, max_attempts: int, room: int) -> None:
    """Reap expired leases, and end cancelled, expired and half-received batches."""
    now = timezone.now()
    reap(max_attempts, room)
    opened = Batch.objects.open_in_background()
    for batch_id in opened.filter(status=Batch.Status.CANCELLING).values_list("pk", flat=True):
        queue.drop_cancelled(batch_id)
    for batch_id in opened.filter(status__in=["queued", "running"], expires_at__lte=now).values_list("pk", flat=True):
        queue.drop_expired(batch_id)
    for batch in opened.filter(status=Batch.Status.RECEIVING, lease_expires_at__lt=now):
        forget(batch, lease_expires_at__lt=now)
    forget_requests(now)


def reap(max_attempts: int, room: int) -> None:
    """Put items whose lease has expired back into the queue; after the last attempt, end them."""
    dead = BatchItem.objects.filter(lease_expires_at__lt=timezone.now(), state=BatchItem.State.RUNNING)
    for item in dead.select_related("batch").order_by("pk")[:SLICE]:
        # The lease may have been renewed since the row was read.
        now = timezone.now()
        if item.attempts < max_attempts:
            queue.update(f"{RELEASE} AND lease_expires_at < %s", now, 0, item.pk, item.fence, now)
        elif dead.filter(pk=item.pk, fence=item.fence, lease_expires_at__lt=now).exists():
            attempt = Attempt(
                item.pk, item.batch, None, item.position, item.fence, item.attempts, item.truncated, item.call or ""
            )
            queue.finish([AttemptResult(attempt, PROCESSES_DIED)], room)


def forget(batch: Batch, **condition: Any) -> None:
    """Delete a batch that was never accepted, if `condition` holds."""
    with queue.atomic():
        # `delete` reads the rows first: without the lock, the batch could be accepted in between.
        unaccepted = Batch.objects.filter(pk=batch.pk, status=Batch.Status.RECEIVING, **condition)
        for row in unaccepted.select_for_update():
            row.delete()


def forget_requests(now: datetime) -> None:
    """Delete stored requests that can't be retried any more."""
    over = Batch.objects.filter(retry_before__lt=now)
    for batch_id in over.values_list("pk", flat=True)[:SLICE]:
        BatchItem.objects.filter(batch=batch_id, call__isnull=False).update(call=None)
        Batch.objects.filter(pk=batch_id).update(retry_before=None)
