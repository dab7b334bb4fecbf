"""What an operator asks of the batches of a period; each is one query, where it is looked at."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import Count, F, QuerySet, Sum, Window

from batching.models import Batch, BatchItem
from wire.observe.statistics import Chart, Percentiles, Period, Share, Slot

__all__ = ["BatchStatistics"]

# Rows that a table has.
MOST_BATCHES = 5
COUNTERS = ("succeeded", "failed", "cancelled", "expired")
STATES = (*COUNTERS, "open")
# What is long in a row, and isn't looked at here.
UNSEEN = ("origin", "identity")


@dataclass(frozen=True, slots=True)
class OpenBatches:
    """How many batches are open now, with how many items left, and the newest of them."""

    count: int = 0
    left: int = 0
    batches: list[Batch] = field(default_factory=list)


class BatchStatistics:
    """The batches that came in a period."""

    def __init__(self, period: Period) -> None:
        self.period = period

    @property
    def batches(self) -> QuerySet[Batch]:
        return Batch.objects.filter(created_at__gte=self.period.since).order_by()

    @cached_property
    def counted(self) -> list[tuple[Any, ...]]:
        """Return slot and status, how many batches there are of them, and their items in all and by state."""
        slots = self.batches.annotate(slot=Slot("created_at", self.period.slot)).values_list("slot", "status")
        return list(slots.annotate(Count("pk"), Sum("total"), *map(Sum, COUNTERS)))

    @cached_property
    def total(self) -> Share:
        return Share("batches", sum(batches for _, _, batches, *_ in self.counted), self.query())

    @cached_property
    def statuses(self) -> list[Share]:
        counts = dict.fromkeys(Batch.Status.values, 0)
        for _, status, batches, *_ in self.counted:
            counts[status] += batches
        return [Share(status, count, self.query(status__exact=status)) for status, count in counts.items()]

    @cached_property
    def by_state(self) -> list[tuple[Any, str, int]]:
        """Return slot, state, and how many items of the slot's batches are in it."""
        return [
            (slot, state, items)
            for slot, _, _, total, *ended in self.counted
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
        """Return the items by when their batches came."""
        return Chart.of(self.period, STATES, self.by_state)

    @cached_property
    def times(self) -> Percentiles | None:
        """Return how long completed batches took, from the call to the end."""
        return Percentiles.of(self.batches.filter(status=Batch.Status.COMPLETED), "duration")

    @cached_property
    def item_times(self) -> Percentiles | None:
        """Return how long items took that succeeded, from their start to their answer."""
        # Said so, the database looks in the index of items that have ended; with a join, SQLite reads all of it.
        succeeded = BatchItem.objects.filter(state=BatchItem.State.SUCCEEDED, finished_at__isnull=False)
        return Percentiles.of(succeeded.filter(batch__in=self.batches.values("pk")), "duration")

    @cached_property
    def slowest(self) -> list[Batch]:
        """Return the batches with the slowest items."""
        return first(self.batches.filter(slowest__isnull=False), "-slowest", "id")

    @cached_property
    def failing(self) -> list[Batch]:
        """Return the newest batches with items that failed."""
        return first(self.batches.filter(failed__gt=0), "-created_at", "-id") if dict(self.states)["failed"] else []

    @cached_property
    def running(self) -> OpenBatches:
        """Return what is open now, whenever it came."""
        left = F("total") - F("succeeded") - F("failed") - F("cancelled") - F("expired")
        open_ = Batch.objects.filter(finished_at=None).defer(*UNSEEN)
        counted = open_.annotate(count=Window(Count("*")), all_left=Window(Sum(left)))
        newest = list(counted.order_by("-created_at", "-id")[:MOST_BATCHES])
        return OpenBatches(newest[0].count, newest[0].all_left, newest) if newest else OpenBatches()  # type: ignore[attr-defined]  # annotated

    def query(self, **chosen: str) -> str:
        return self.period.query("created_at", **chosen)


def first(batches: QuerySet[Batch], *order: str) -> list[Batch]:
    return list(batches.defer(*UNSEEN).order_by(*order)[:MOST_BATCHES])
