"""All items of a batch at a glance, however many: the database groups them, and an index holds what it looks at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlencode

from django.db.models import Case, Count, F, IntegerField, Max, Min, Q, QuerySet, Value, When
from django.db.models.functions import Substr

from batching.inspection.item_list import ITEMS_SHOWN, MESSAGE_CHARS, Choice, Mark, mark_of
from batching.inspection.waterfall import Scale, Stretch, Tick, percent
from batching.models import Batch, BatchItem
from wire.observe.durations import spoken

MOST_GROUPS = 20
MOST_PARTS = 50
# Items in a part.
SIZES: tuple[int, ...] = tuple(factor * 10**power for power in range(8) for factor in (1, 2, 5))
# With fewer, each one's time says more than a distribution.
LEAST_DISTRIBUTED = 20
# Seconds that part the bins.
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
class Group:
    """Items that ended alike without success. `query` leads to them."""

    mark: Mark
    message: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class Bin:
    """How many items took how long; their share of the longest bin, in per cent, and the failed ones' part of it."""

    label: str
    count: int
    failed: int
    width: str
    failed_width: str


@dataclass(frozen=True, slots=True)
class Part:
    """Items with consecutive positions: when the first of them started and the last ended."""

    first: int
    last: int
    ended: int
    failed: int
    slowest: float | None
    stretch: Stretch | None

    @property
    def query(self) -> str:
        return urlencode({"first": self.first, "last": self.last})

    @property
    def left(self) -> int:
        return self.last - self.first + 1 - self.ended

    @property
    def longest(self) -> str:
        return "" if self.slowest is None else spoken(self.slowest)

    @property
    def tone(self) -> str:
        return "bad" if self.failed and self.failed == self.ended else "good"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Parts of a batch on one scale of time, which begins `begins` after the call."""

    begins: str
    ticks: Sequence[Tick]
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the database says of a part."""

    ended: int
    failed: int
    slowest: float | None
    started: datetime | None
    finished: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """A scale of time that begins at a moment."""

    begin: datetime
    scale: Scale

    @classmethod
    def of(cls, measured: Sequence[Measured], batch: Batch) -> Self:
        """Return the window from the first start to the last end."""
        begin = min((one.started for one in measured if one.started), default=batch.created_at)
        end = max((one.finished for one in measured), default=begin)
        return cls(begin, Scale(max((end - begin).total_seconds(), 0.001)))

    def stretch(self, start: datetime, end: datetime) -> Stretch:
        return self.scale.stretch((start - self.begin).total_seconds(), (end - self.begin).total_seconds())


class Overview:
    """What there is to see of a batch beside its single items; each is one query, where it is looked at."""

    def __init__(self, batch: Batch, choice: Choice) -> None:
        self.batch = batch
        self.choice = choice

    @property
    def ended(self) -> QuerySet[BatchItem]:
        return self.batch.items.filter(finished_at__isnull=False).order_by()

    @cached_property
    def groups(self) -> list[Group]:
        """Return failures by status and message, the most frequent first."""
        if self.batch.succeeded + self.batch.left == self.batch.total:
            return []
        alike = self.ended.filter(state__in=UNSUCCESSFUL).annotate(message=Substr("error", 1, MESSAGE_CHARS))
        counted = alike.values("state", "status", "message").annotate(count=Count("*"), first=Min("position"))
        return [group(row) for row in counted.order_by("-count", "first")[:MOST_GROUPS]]

    @cached_property
    def bins(self) -> list[Bin]:
        """Return how long the items took that ran."""
        if self.batch.total < LEAST_DISTRIBUTED:
            return []
        number: Any = Case(
            *(When(duration__lt=edge, then=Value(place)) for place, edge in enumerate(EDGES)),
            default=Value(len(EDGES)),
            output_field=IntegerField(),
        )
        ran = self.ended.filter(started_at__isnull=False).annotate(bin=number)
        counted = {
            place: (everything, failed)
            for place, everything, failed in ran.values_list("bin").annotate(
                everything=Count("*"), failed=Count("position", filter=~SUCCEEDED)
            )
        }
        return binned(counted)

    @cached_property
    def waterfall(self) -> Waterfall | None:
        """Return the chosen items in parts; None where they are few enough to be shown one by one."""
        first, last = self.choice.first, min(self.choice.last, self.batch.total - 1)
        if last - first < ITEMS_SHOWN:
            return None
        size = size_of_parts(last - first + 1)
        found = self.measured(first, last, size)
        window = Window.of(list(found.values()), self.batch)
        parts = [
            part(found.get(number), window, max(number * size, first), min(number * size + size - 1, last))
            for number in range(first // size, last // size + 1)
        ]
        return Waterfall(spoken((window.begin - self.batch.created_at).total_seconds()), window.scale.ticks(), parts)

    def measured(self, first: int, last: int, size: int) -> dict[int, Measured]:
        """Return what is known of each part in which something has ended."""
        within = self.ended.filter(position__gte=first, position__lte=last).annotate(part=F("position") / size)
        rows = within.values_list("part").annotate(
            ended=Count("*"),
            unsuccessful=Count("position", filter=~SUCCEEDED),
            slowest=Max("duration"),
            began=Min("started_at"),
            over=Max("finished_at"),
        )
        return {number: Measured(*values) for number, *values in rows}


def part(measured: Measured | None, window: Window, first: int, last: int) -> Part:
    if measured is None:
        return Part(first, last, 0, 0, None, None)
    if measured.started is None:
        return Part(first, last, measured.ended, measured.failed, None, None)
    stretch = window.stretch(measured.started, measured.finished)
    return Part(first, last, measured.ended, measured.failed, measured.slowest, stretch)


def group(row: Mapping[str, Any]) -> Group:
    chosen = {"state": row["state"], "status": "" if row["status"] is None else row["status"], "error": row["message"]}
    return Group(mark_of(row["state"], row["status"]), row["message"], row["count"], urlencode(chosen))


def binned(counted: dict[int, tuple[int, int]]) -> list[Bin]:
    """Return the bins from the first to the last that has something."""
    if not counted:
        return []
    most = max(everything for everything, _ in counted.values())
    bins = []
    for place in range(min(counted), max(counted) + 1):
        everything, failed = counted.get(place, (0, 0))
        widths = percent(everything * 100 / most), percent(failed * 100 / most)
        bins.append(Bin(label(place), everything, failed, *widths))
    return bins


def label(place: int) -> str:
    if place == 0:
        return f"below {spoken(EDGES[0])}"
    if place == len(EDGES):
        return f"{spoken(EDGES[-1])} and more"
    return f"{spoken(EDGES[place - 1])} to {spoken(EDGES[place])}"


def size_of_parts(items: int) -> int:
    """Return a round number of items such that few enough parts of that size make them up."""
    return next(size for size in SIZES if items <= size * MOST_PARTS)
