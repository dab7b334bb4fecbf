"""What somebody has to look after: leases and times that are over, and what was kept long enough.

Every process that works on items does, and it does no harm twice.
"""

from datetime import datetime
from typing import Any

from django.utils import timezone

from batching.background import queue
from batching.background.queue import RELEASE, Claimed, Ending
from batching.items.item import ItemResponse
from batching.models import Batch, BatchItem
from batching.records.rows import SLICE

GAVE_UP = ItemResponse(503, error="Gave up: the processes that worked on it died")


def sweep(*, attempts: int, room: int) -> None:
    """End what is over, and put back what dead processes held."""
    now = timezone.now()
    reap(attempts, room)
    opened = Batch.objects.open_in_background()
    for batch_id in opened.filter(status=Batch.Status.CANCELLING).values_list("pk", flat=True):
        queue.drop_cancelled(batch_id)
    for batch_id in opened.filter(status__in=["queued", "running"], expires_at__lte=now).values_list("pk", flat=True):
        queue.drop_expired(batch_id)
    for batch in opened.filter(status=Batch.Status.RECEIVING, lease_expires_at__lt=now):
        forget(batch, lease_expires_at__lt=now)
    forget_calls(now)


def reap(attempts: int, room: int) -> None:
    """Put back into the queue what was claimed by processes that died; give up what was tried often enough."""
    dead = BatchItem.objects.filter(lease_expires_at__lt=timezone.now(), state=BatchItem.State.RUNNING)
    for item in dead.select_related("batch").order_by("pk")[:SLICE]:
        # Its lease may have been prolonged since it was read.
        now = timezone.now()
        if item.attempts < attempts:
            queue.changed(f"{RELEASE} AND lease_expires_at < %s", now, 0, item.pk, item.fence, now)
        elif dead.filter(pk=item.pk, fence=item.fence, lease_expires_at__lt=now).exists():
            held = Claimed(
                item.pk, item.batch, None, item.position, item.fence, item.attempts, item.truncated, item.call or ""
            )
            queue.finish([Ending(held, GAVE_UP)], room)


def forget(batch: Batch, **still: Any) -> None:
    """Delete a batch that was never accepted, and is `still` so."""
    with queue.atomic():
        # Deleting asks what there is first: unless it is held from here on, it could be accepted in between.
        for unaccepted in Batch.objects.select_for_update().filter(pk=batch.pk, status=Batch.Status.RECEIVING, **still):
            unaccepted.delete()


def forget_calls(now: datetime) -> None:
    """Delete the requests that were kept for a retry long enough."""
    over = Batch.objects.filter(retry_before__lt=now)
    for batch_id in over.values_list("pk", flat=True)[:SLICE]:
        BatchItem.objects.filter(batch=batch_id, call__isnull=False).update(call=None)
        Batch.objects.filter(pk=batch_id).update(retry_before=None)
