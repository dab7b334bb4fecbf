"""The years, months or days that have batches, found without reading the batches."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, Max, Min
from django.utils import timezone

from batching.models import BatchQuerySet

# More than the longest of each, less than two of them.
STEPS = {"year": timedelta(days=370), "month": timedelta(days=35), "day": timedelta(hours=36)}
FIRST_DAYS: dict[str, Any] = {"year": {"month": 1, "day": 1}, "month": {"day": 1}, "day": {}}


class DatedBatches(BatchQuerySet):
    """Batches in an admin with a date hierarchy."""

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> list[datetime]:  # type: ignore[override]  # iterated, no more
        """Return the first moment of each period that has batches, in two queries that an index answers.

        Django's own truncates the moment of each row, which takes SQLite 2 s for 100,000 rows.
        """
        ends = self.aggregate(first=Min(field_name), last=Max(field_name))
        if ends["first"] is None:
            return []
        starts = list(periods(ends["first"], ends["last"], kind))
        within = [{f"{field_name}__gte": start, f"{field_name}__lt": next_period(start, kind)} for start in starts]
        # The period's bounds first: SQLite searches the index by those that come first.
        exists = (Exists(DatedBatches(self.model).filter(**one) & self) for one in within)
        for row in self.order_by().values_list(*exists)[:1]:
            return [start for start, is_there in zip(starts, row, strict=True) if is_there]
        return []


def periods(first: datetime, last: datetime, kind: str) -> Iterator[datetime]:
    """Yield the first moments of the periods from one moment to another, in the current time zone."""
    start = period_start(timezone.localtime(first), kind)
    while start <= last:
        yield start
        start = next_period(start, kind)


def next_period(start: datetime, kind: str) -> datetime:
    return period_start(start + STEPS[kind], kind)


def period_start(moment: datetime, kind: str) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0, **FIRST_DAYS[kind])
