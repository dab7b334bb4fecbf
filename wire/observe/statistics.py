"""Statistics of the last hour, day or week, computed by the database, on SQLite as on PostgreSQL."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Self
from urllib.parse import urlencode

from django.db.models import BigIntegerField, Case, Count, F, Func, QuerySet, Value, When
from django.db.models.functions import Trunc
from django.utils import timezone

__all__ = ["Percentiles", "Period", "Series", "Share"]

# The length of each period, and of its slots.
PERIODS = {
    "hour": (timedelta(hours=1), "minute"),
    "day": (timedelta(days=1), "hour"),
    "week": (timedelta(days=7), "hour"),
}
SLOTS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Period:
    """The time from `since` to `now`, in slots that are whole minutes or hours of UTC."""

    name: str
    since: datetime
    now: datetime
    slot: str

    @classmethod
    def named(cls, name: str) -> Self:
        """Return the last hour, day or week; the last hour for any other name."""
        name = name if name in PERIODS else "hour"
        (length, slot), now = PERIODS[name], timezone.now()
        return cls(name, now - length, now, slot)

    @property
    def slots(self) -> list[datetime]:
        """Return the start of each slot. The first starts before the period; the last isn't over."""
        step = SLOTS[self.slot]
        first = self.since.astimezone(UTC).replace(second=0, microsecond=0)
        first = first if self.slot == "minute" else first.replace(minute=0)
        return [first + step * number for number in range((self.now - first) // step + 1)]

    def query(self, field: str, **chosen: Any) -> str:
        """Return the query that filters an admin's list to the rows of this period."""
        return urlencode({f"{field}__gte": self.since.isoformat(), **chosen})


class Slot(Trunc):
    """The slot of a moment."""

    # The prefix of a moment as SQLite stores it. Django's own truncates in Python: 4 s for a million rows.
    LETTERS = {"minute": len("2026-01-01 00:00"), "hour": len("2026-01-01 00")}

    def __init__(self, field: str, kind: str) -> None:
        super().__init__(field, kind=kind, tzinfo=UTC)

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        moment, values = compiler.compile(self.lhs)
        return f"SUBSTR({moment}, 1, {self.LETTERS[str(self.kind)]})", values


@dataclass(frozen=True, slots=True)
class Share:
    """The number of rows with the same name. `query` filters the admin's list to them."""

    name: str
    count: int
    query: str


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart: a number for each slot."""

    name: str
    numbers: Sequence[int]


@dataclass(frozen=True, slots=True)
class Chart:
    slots: Sequence[datetime]
    series: Sequence[Series]

    @classmethod
    def of(cls, period: Period, names: Sequence[str], counted: Iterable[tuple[datetime, str, int]]) -> Self:
        """Return a chart of numbers by slot and name."""
        slots = period.slots
        numbers = {name: dict.fromkeys(slots, 0) for name in names}
        for slot, name, number in counted:
            if slot in numbers[name]:
                numbers[name][slot] += number
        return cls(slots, [Series(name, list(numbers[name].values())) for name in names])

    @property
    def rows(self) -> list[tuple[datetime, tuple[int, ...]]]:
        """Return the slots that aren't empty, with the number of each series."""
        rows = zip(self.slots, zip(*(one.numbers for one in self.series), strict=True), strict=True)
        return [(slot, numbers) for slot, numbers in rows if any(numbers)]

    def represent(self) -> dict[str, Any]:
        return {
            "slots": [int(slot.timestamp()) for slot in self.slots],
            "series": [{"name": one.name, "numbers": one.numbers} for one in self.series],
        }


# Times are rounded to at least three digits and counted: to sort a million takes too long. Below each of these limits a
# second has so many parts; above all of them, one.
PARTS = {0.1: 100_000, 1: 10_000, 10: 1_000, 100: 100, 1_000: 10}
MOST_PARTS = 100_000


class WholeNumber(Func):
    """A number of zero or more, rounded to a whole number."""

    template = "CAST(%(expressions)s AS BIGINT)"
    output_field = BigIntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        return self.as_sql(compiler, connection, template="CAST(%(expressions)s + 0.5 AS BIGINT)", **extra_context)


def parts(field: str, of_a_second: int) -> Any:
    return WholeNumber(F(field) * Value(float(of_a_second))) * Value(MOST_PARTS // of_a_second)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of `count` durations, in seconds: half are at most `p50`, 95 in 100 at most `p95`."""

    count: int
    p50: float
    p95: float

    @classmethod
    def of(cls, rows: QuerySet[Any], field: str) -> Self | None:
        """Return the percentiles of a field in seconds, by nearest rank and to three digits; None without values."""
        whens = (When(**{f"{field}__lt": limit}, then=parts(field, number)) for limit, number in PARTS.items())
        rounded = Case(*whens, default=parts(field, 1))
        timed = rows.filter(**{f"{field}__isnull": False}).order_by()
        counted = sorted(timed.annotate(rounded=rounded).values_list("rounded").annotate(number=Count("*")))
        count = sum(each for _, each in counted)
        return cls(count, ranked(counted, count * 0.5), ranked(counted, count * 0.95)) if count else None


def ranked(counted: Sequence[tuple[int, int]], rank: float) -> float:
    """Return the seconds at a rank."""
    passed = accumulate(number for _, number in counted)
    return next(each for (each, _), upto in zip(counted, passed, strict=True) if upto >= rank) / MOST_PARTS
