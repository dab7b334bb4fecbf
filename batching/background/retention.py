"""Deletes batches that are past their retention."""

from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.utils import timezone

from batching.models import Batch, BatchItem

# Batches and items that one statement deletes: none holds its locks for long.
SLICE = 500
ITEMS = 5_000


def prune(*, older_than: timedelta) -> int:
    """Delete batches that finished so long ago, and end those whose process died; return how many were deleted."""
    Batch.objects.abandoned().interrupt()
    old = Batch.objects.finished_before(timezone.now() - older_than).order_by("finished_at")
    deleted = 0
    while some := list(old.values_list("pk", "total")[:SLICE]):
        for batch_id, total in some:
            thin(batch_id, total)
        for ids in groups(some):
            Batch.objects.filter(pk__in=ids).delete()
        deleted += len(some)
    return deleted


def thin(batch_id: str, total: int) -> None:
    """Delete the items of a large batch, except those that one statement can delete with it.

    By position, which has an index: a statement without it would read all the rows that were deleted before.
    """
    for start in range(ITEMS, total, ITEMS):
        BatchItem.objects.filter(batch=batch_id, position__gte=start, position__lt=start + ITEMS).delete()


def groups(batches: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Group the ids of batches, given with their numbers of items, by what one statement deletes."""
    ids: list[str] = []
    items = 0
    for batch_id, total in batches:
        left = min(total, ITEMS)
        if items + left > ITEMS:
            yield ids
            ids, items = [], 0
        ids.append(batch_id)
        items += left
    yield ids
