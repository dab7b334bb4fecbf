"""A background batch as an operator watches it: what the admin's page is told again and again while it runs."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.utils import timezone

from batching.inspection.item_list import Mark, mark_of_batch, phrase
from batching.inspection.waterfall import Stretch, percent
from batching.models import Batch, BatchItem
from wire.observe.durations import spoken

# Where the WebSocket of a batch is, below the project's root.
SOCKET = "ws/batches/"


# In the order in which the page shows them.
STATES = ("succeeded", "failed", "expired", "cancelled", "running", "queued")


@dataclass(frozen=True, slots=True)
class Segment:
    """The items of a batch that are in a state."""

    name: str
    count: int
    stretch: Stretch


@dataclass(frozen=True, slots=True)
class Live:
    """How far a batch is. `elapsed` is the seconds since its first item started."""

    batch: Batch
    counts: dict[str, int]
    elapsed: float
    failures: list[dict[str, Any]]

    @property
    def is_final(self) -> bool:
        return self.batch.finished_at is not None

    @property
    def done(self) -> int:
        return self.batch.total - self.batch.left

    @property
    def rate(self) -> float:
        """Return the items a second, over all the time."""
        return self.done / self.elapsed if self.elapsed else 0.0

    @property
    def mark(self) -> Mark:
        return mark_of_batch(self.batch)

    @property
    def segments(self) -> list[Segment]:
        """Return the items by state, as pieces of one bar."""
        segments, before = [], 0.0
        for name in STATES:
            share = self.counts.get(name, 0) * 100 / (self.batch.total or 1)
            segments.append(Segment(name, self.counts.get(name, 0), Stretch(percent(before), percent(share))))
            before += share
        return segments

    @property
    def spoken_rate(self) -> str:
        return f"{self.rate:.3g} items/s"

    @property
    def spoken_elapsed(self) -> str:
        return spoken(self.elapsed)

    @property
    def percent(self) -> int:
        """Return the share that has ended; all of it only where all has."""
        return self.done * 100 // self.batch.total if self.batch.total else 100

    def represent(self) -> dict[str, Any]:
        return {
            "batch_id": self.batch.pk,
            "status": self.batch.status,
            "counts": self.counts,
            "is_final": self.is_final,
            "elapsed": round(self.elapsed, 3),
            "failures": self.failures,
        }


def live(batch: Batch) -> Live:
    return Live(batch, batch.counts, elapsed(batch), failures(batch))


def elapsed(batch: Batch) -> float:
    if batch.started_at is None:
        return 0.0
    return max(((batch.finished_at or timezone.now()) - batch.started_at).total_seconds(), 0.0)


def failures(batch: Batch) -> list[dict[str, Any]]:
    """Return how many items failed with each status; an index knows it."""
    if not batch.failed:
        return []
    failed = batch.items.filter(state=BatchItem.State.FAILED, finished_at__isnull=False).order_by("status")
    counted = failed.values_list("status").annotate(count=Count("*"))
    return [{"status": status, "reason": phrase(status), "count": count} for status, count in counted]


def seen(batch_id: str) -> dict[str, Any] | None:
    """Return what there is to tell of a batch; None where it was deleted."""
    batch = Batch.objects.defer("origin", "identity").filter(pk=batch_id).first()
    return live(batch).represent() if batch else None
