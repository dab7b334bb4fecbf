"""How long batches are kept."""

from datetime import timedelta

from django.utils import timezone

from batching.models import Batch, BatchItem

# Batches, and items, that one statement deletes: none keeps others waiting for long.
SLICE = 500
ITEMS = 5_000


def prune(*, older_than: timedelta) -> int:
    """Delete batches that finished so long ago, and end those whose process died; returns how many were deleted."""
    Batch.objects.abandoned().interrupt()
    old = Batch.objects.finished_before(timezone.now() - older_than)
    deleted = 0
    while ids := list(old.order_by("finished_at").values_list("pk", flat=True)[:SLICE]):
        items = BatchItem.objects.filter(batch__in=ids)
        while BatchItem.objects.filter(pk__in=items.values("pk")[:ITEMS]).delete()[0]:
            pass
        Batch.objects.filter(pk__in=ids).delete()
        deleted += len(ids)
    return deleted
