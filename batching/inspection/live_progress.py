"""The progress of a background batch, as the admin's page shows it while the batch runs."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.utils import timezone

from batching.inspection.badges import Badge, batch_badge, reason_phrase
from batching.inspection.waterfall import BarSegment, format_percent
from batching.models import Batch, BatchItem
from wire.observe.durations import format_duration

# The path prefix of a batch's WebSocket, below the project's root.
SOCKET = "ws/batches/"


# In the order of the page.
STATES = ("succeeded", "failed", "expired", "cancelled", "running", "queued")


@dataclass(frozen=True, slots=True)
class StateSegment:
    """The items of a batch in one state."""

    name: str
    count: int
    bar: BarSegment


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """The progress of a batch. `elapsed` counts the seconds since its first item started."""

    batch: Batch
    counts: dict[str, int]
    elapsed: float
    failures: list[dict[str, Any]]

    @property
    def is_final(self) -> bool:
        return self.batch.finished_at is not None

    @property
    def finished(self) -> int:
        return self.batch.total - self.batch.left

    @property
    def rate(self) -> float:
        """Return the average number of items per second."""
        return self.finished / self.elapsed if self.elapsed else 0.0

    @property
    def badge(self) -> Badge:
        return batch_badge(self.batch)

    @property
    def segments(self) -> list[StateSegment]:
        """Return the items by state, as segments of one bar."""
        segments, offset = [], 0.0
        for name in STATES:
            share = self.counts.get(name, 0) * 100 / (self.batch.total or 1)
            segments.append(
                StateSegment(name, self.counts.get(name, 0), BarSegment(format_percent(offset), format_percent(share)))
            )
            offset += share
        return segments

    @property
    def rate_text(self) -> str:
        return f"{self.rate:.3g} items/s"

    @property
    def elapsed_text(self) -> str:
        return format_duration(self.elapsed)

    @property
    def percent(self) -> int:
        """Return the percentage of finished items, rounded down."""
        return self.finished * 100 // self.batch.total if self.batch.total else 100

    def represent(self) -> dict[str, Any]:
        return {
            "batch_id": self.batch.pk,
            "status": self.batch.status,
            "counts": self.counts,
            "is_final": self.is_final,
            "elapsed": round(self.elapsed, 3),
            "failures": self.failures,
        }


def live_progress(batch: Batch) -> LiveProgress:
    return LiveProgress(batch, batch.counts, elapsed(batch), failures(batch))


def elapsed(batch: Batch) -> float:
    if batch.started_at is None:
        return 0.0
    return max(((batch.finished_at or timezone.now()) - batch.started_at).total_seconds(), 0.0)


def failures(batch: Batch) -> list[dict[str, Any]]:
    """Return how many items failed with each status, counted in an index."""
    if not batch.failed:
        return []
    failed = batch.items.filter(state=BatchItem.State.FAILED, finished_at__isnull=False).order_by("status")
    counts = failed.values_list("status").annotate(count=Count("*"))
    return [{"status": status, "reason": reason_phrase(status), "count": count} for status, count in counts]


def snapshot(batch_id: str) -> dict[str, Any] | None:
    """Return the progress of a batch as JSON; None if it was deleted."""
    batch = Batch.objects.defer("origin", "identity").filter(pk=batch_id).first()
    return live_progress(batch).represent() if batch else None
