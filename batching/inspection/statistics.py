"""Statistics of the batches of a period; each is one query, made on access."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import Count, F, QuerySet, Sum, Window

from batching.models import Batch, BatchItem
from wire.observe.statistics import Chart, Percentiles, Period, Share, Slot

__all__ = ["BatchStatistics"]

# Rows of a table.
MAX_BATCHES = 5
COUNTERS = ("succeeded", "failed", "cancelled", "expired")
STATES = (*COUNTERS, "open")
# Long columns, which aren't needed here.
DEFERRED = ("origin", "identity")


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """The number of open batches and of their items left, and the newest batches."""

    count: int = 0
    left: int = 0
    batches: list[Batch] = field(default_factory=list)


class BatchStatistics:
    """The batches that were received in a period."""

    def __init__(self, period: Period) -> None:
        self.period = period

    @property
    def batches(self) -> QuerySet[Batch]:
        return Batch.objects.filter(created_at__gte=self.period.since).order_by()

    @cached_property
    def counts_by_slot(self) -> list[tuple[Any, ...]]:
        """Return rows of slot, status, number of batches, and their items in total and by state."""
        slots = self.batches.annotate(slot=Slot("created_at", self.period.slot)).values_list("slot", "status")
        return list(slots.annotate(Count("pk"), Sum("total"), *map(Sum, COUNTERS)))

    @cached_property
    def total(self) -> Share:
        return Share("batches", sum(batches for _, _, batches, *_ in self.counts_by_slot), self.query())

    @cached_property
    def statuses(self) -> list[Share]:
        counts = dict.fromkeys(Batch.Status.values, 0)
        for _, status, batches, *_ in self.counts_by_slot:
            counts[status] += batches
        return [Share(status, count, self.query(status__exact=status)) for status, count in counts.items()]

    @cached_property
    def by_state(self) -> list[tuple[Any, str, int]]:
        """Return rows of slot, state, and the number of items."""
        return [
            (slot, state, items)
            for slot, _, _, total, *ended in self.counts_by_slot
            for state, items in zip(STATES, (*ended, total - sum(ended)), strict=True)
        ]

    @cached_property
    def states(self) -> list[tuple[str, int]]:
        return [(state, sum(items for _, each, items in self.by_state if each == state)) for state in STATES]

    @property
    def items(self) -> int:
        return sum(items for _, items in self.states)

    @property
    def items_chart(self) -> Chart:
        """Return the items by the slot of their batches."""
        return Chart.of(self.period, STATES, self.by_state)

    @cached_property
    def times(self) -> Percentiles | None:
        """Return the durations of completed batches, from the call to the end."""
        return Percentiles.of(self.batches.filter(status=Batch.Status.COMPLETED), "duration")

    @cached_property
    def item_times(self) -> Percentiles | None:
        """Return the durations of succeeded items, from the start to the response."""
        # With `finished_at` the database uses the index of finished items; with a join, SQLite reads all of it.
        succeeded = BatchItem.objects.filter(state=BatchItem.State.SUCCEEDED, finished_at__isnull=False)
        return Percentiles.of(succeeded.filter(batch__in=self.batches.values("pk")), "duration")

    @cached_property
    def slowest(self) -> list[Batch]:
        """Return the batches with the slowest items."""
        return top(self.batches.filter(slowest__isnull=False), "-slowest", "id")

    @cached_property
    def failing(self) -> list[Batch]:
        """Return the newest batches with items that failed."""
        return top(self.batches.filter(failed__gt=0), "-created_at", "-id") if dict(self.states)["failed"] else []

    @cached_property
    def running(self) -> OpenBatches:
        """Return the open batches, including those received before the period."""
        left = F("total") - F("succeeded") - F("failed") - F("cancelled") - F("expired")
        open_ = Batch.objects.filter(finished_at=None).defer(*DEFERRED)
        counts_by_slot = open_.annotate(count=Window(Count("*")), all_left=Window(Sum(left)))
        newest = list(counts_by_slot.order_by("-created_at", "-id")[:MAX_BATCHES])
        return OpenBatches(newest[0].count, newest[0].all_left, newest) if newest else OpenBatches()  # type: ignore[attr-defined]  # annotated

    def query(self, **chosen: str) -> str:
        return self.period.query("created_at", **chosen)


def top(batches: QuerySet[Batch], *order: str) -> list[Batch]:
    return list(batches.defer(*DEFERRED).order_by(*order)[:MAX_BATCHES])
