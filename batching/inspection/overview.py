"""An overview of any number of items: the database groups them by an index."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlencode

from django.db.models import Case, Count, F, IntegerField, Max, Min, Q, QuerySet, Value, When
from django.db.models.functions import Substr

from batching.inspection.badges import Badge, item_badge
from batching.inspection.item_filter import MAX_MESSAGE_CHARS, ItemFilter
from batching.inspection.item_list import MAX_ITEMS
from batching.inspection.waterfall import BarSegment, Scale, Tick, format_percent
from batching.models import Batch, BatchItem
from batching.records.masking import mask
from wire.observe.durations import format_duration

MAX_GROUPS = 20
MAX_RANGES = 50
# Items per range.
RANGE_SIZES: tuple[int, ...] = tuple(factor * 10**power for power in range(8) for factor in (1, 2, 5))
# Fewer items have no distribution.
MIN_ITEMS_FOR_BINS = 20
# The bounds of the bins, in seconds.
EDGES = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
)

SUCCEEDED = Q(state=BatchItem.State.SUCCEEDED)
UNSUCCESSFUL = (
    BatchItem.State.FAILED,
    BatchItem.State.EXPIRED,
    BatchItem.State.CANCELLED,
    BatchItem.State.INTERRUPTED,
)


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Items that ended with the same status and error. `query` selects them."""

    badge: Badge
    message: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class DurationBin:
    """The items with a duration between two bounds; widths are percentages of the largest bin."""

    label: str
    count: int
    failed: int
    width: str
    failed_width: str


@dataclass(frozen=True, slots=True)
class ItemRange:
    """Items with consecutive positions, from the first start to the last end."""

    first: int
    last: int
    ended: int
    failed: int
    slowest: float | None
    bar: BarSegment | None

    @property
    def query(self) -> str:
        return urlencode({"first": self.first, "last": self.last})

    @property
    def left(self) -> int:
        return self.last - self.first + 1 - self.ended

    @property
    def longest(self) -> str:
        return "" if self.slowest is None else format_duration(self.slowest)

    @property
    def tone(self) -> str:
        return "bad" if self.failed and self.failed == self.ended else "good"


@dataclass(frozen=True, slots=True)
class RangeWaterfall:
    """Ranges of a batch on one scale of time, which begins `begin_offset` after the call."""

    begin_offset: str
    ticks: Sequence[Tick]
    ranges: Sequence[ItemRange]


@dataclass(frozen=True, slots=True)
class RangeTotals:
    """The database's totals of a range."""

    ended: int
    failed: int
    slowest: float | None
    started: datetime | None
    finished: datetime


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A scale of time with a start."""

    begin: datetime
    scale: Scale

    @classmethod
    def of(cls, totals: Sequence[RangeTotals], batch: Batch) -> Self:
        """Return the window from the first start to the last end."""
        begin = min((one.started for one in totals if one.started), default=batch.created_at)
        end = max((one.finished for one in totals), default=begin)
        return cls(begin, Scale(max((end - begin).total_seconds(), 0.001)))

    def segment(self, start: datetime, end: datetime) -> BarSegment:
        return self.scale.segment((start - self.begin).total_seconds(), (end - self.begin).total_seconds())


class Overview:
    """Summaries of a batch's items; each is one query, made on access."""

    def __init__(self, batch: Batch, item_filter: ItemFilter) -> None:
        self.batch = batch
        self.item_filter = item_filter

    @property
    def finished(self) -> QuerySet[BatchItem]:
        return self.batch.items.filter(finished_at__isnull=False).order_by()

    @cached_property
    def groups(self) -> list[FailureGroup]:
        """Return failures by status and message, the most frequent first."""
        if self.batch.succeeded + self.batch.left == self.batch.total:
            return []
        message = Substr("error", 1, MAX_MESSAGE_CHARS)
        unsuccessful = self.finished.filter(state__in=UNSUCCESSFUL).annotate(message=message)
        counts = unsuccessful.values("state", "status", "message").annotate(count=Count("*"), first=Min("position"))
        return [make_group(row) for row in counts.order_by("-count", "first")[:MAX_GROUPS]]

    @cached_property
    def bins(self) -> list[DurationBin]:
        """Return the distribution of the durations of items that ran."""
        if self.batch.total < MIN_ITEMS_FOR_BINS:
            return []
        number: Any = Case(
            *(When(duration__lt=edge, then=Value(position)) for position, edge in enumerate(EDGES)),
            default=Value(len(EDGES)),
            output_field=IntegerField(),
        )
        ran = self.finished.filter(started_at__isnull=False).annotate(bin=number)
        counts = {
            position: (count, failed)
            for position, count, failed in ran.values_list("bin").annotate(
                count=Count("*"), failed=Count("position", filter=~SUCCEEDED)
            )
        }
        return make_bins(counts)

    @cached_property
    def waterfall(self) -> RangeWaterfall | None:
        """Return the filtered items in ranges; None if they are few enough to be shown one by one."""
        first, last = self.item_filter.first, min(self.item_filter.last, self.batch.total - 1)
        if last - first < MAX_ITEMS:
            return None
        size = range_size(last - first + 1)
        found = self.totals(first, last, size)
        window = TimeWindow.of(list(found.values()), self.batch)
        ranges = [
            make_range(found.get(number), window, max(number * size, first), min(number * size + size - 1, last))
            for number in range(first // size, last // size + 1)
        ]
        offset = (window.begin - self.batch.created_at).total_seconds()
        return RangeWaterfall(format_duration(offset), window.scale.ticks(), ranges)

    def totals(self, first: int, last: int, size: int) -> dict[int, RangeTotals]:
        """Return the totals of each range with finished items."""
        within = self.finished.filter(position__gte=first, position__lte=last).annotate(range=F("position") / size)
        rows = within.values_list("range").annotate(
            ended=Count("*"),
            unsuccessful=Count("position", filter=~SUCCEEDED),
            slowest=Max("duration"),
            began=Min("started_at"),
            over=Max("finished_at"),
        )
        return {number: RangeTotals(*values) for number, *values in rows}


def make_range(totals: RangeTotals | None, window: TimeWindow, first: int, last: int) -> ItemRange:
    if totals is None:
        return ItemRange(first, last, 0, 0, None, None)
    if totals.started is None:
        return ItemRange(first, last, totals.ended, totals.failed, None, None)
    bar = window.segment(totals.started, totals.finished)
    return ItemRange(first, last, totals.ended, totals.failed, totals.slowest, bar)


def make_group(row: Mapping[str, Any]) -> FailureGroup:
    query = {"state": row["state"], "status": "" if row["status"] is None else row["status"]}
    if (message := mask(row["message"])) == row["message"]:
        query["error"] = message
    return FailureGroup(item_badge(row["state"], row["status"]), message, row["count"], urlencode(query))


def make_bins(counts: dict[int, tuple[int, int]]) -> list[DurationBin]:
    """Return the bins from the first to the last that isn't empty."""
    if not counts:
        return []
    most = max(count for count, _ in counts.values())
    bins = []
    for position in range(min(counts), max(counts) + 1):
        count, failed = counts.get(position, (0, 0))
        widths = format_percent(count * 100 / most), format_percent(failed * 100 / most)
        bins.append(DurationBin(bin_label(position), count, failed, *widths))
    return bins


def bin_label(position: int) -> str:
    if position == 0:
        return f"below {format_duration(EDGES[0])}"
    if position == len(EDGES):
        return f"{format_duration(EDGES[-1])} and more"
    return f"{format_duration(EDGES[position - 1])} to {format_duration(EDGES[position])}"


def range_size(items: int) -> int:
    """Return the smallest round size that divides the items into few enough ranges."""
    return next(size for size in RANGE_SIZES if items <= size * MAX_RANGES)
