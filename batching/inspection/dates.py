"""The years, months or days that have batches, found without reading all batches."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, Max, Min
from django.utils import timezone

from batching.models import BatchQuerySet

# Longer than any period of its kind, shorter than two.
STEPS = {"year": timedelta(days=370), "month": timedelta(days=35), "day": timedelta(hours=36)}
FIRST_DAYS: dict[str, Any] = {"year": {"month": 1, "day": 1}, "month": {"day": 1}, "day": {}}


class DatedBatches(BatchQuerySet):
    """Batches of an admin with a date hierarchy."""

    def datetimes(self, field_name: str, kind: str, *args: Any, **kwargs: Any) -> list[datetime]:  # type: ignore[override]  # iterated, no more
        """Return the start of each period that has batches, in two queries that an index answers.

        Django's method truncates the time of each row, which takes SQLite 2 s for 100,000 rows.
        """
        ends = self.aggregate(first=Min(field_name), last=Max(field_name))
        if ends["first"] is None:
            return []
        starts = list(periods(ends["first"], ends["last"], kind))
        within = [{f"{field_name}__gte": start, f"{field_name}__lt": next_period(start, kind)} for start in starts]
        # The period's bounds first: SQLite uses the index for the first conditions.
        exists = (Exists(DatedBatches(self.model).filter(**one) & self) for one in within)
        for row in self.order_by().values_list(*exists)[:1]:
            return [start for start, is_there in zip(starts, row, strict=True) if is_there]
        return []


def periods(first: datetime, last: datetime, kind: str) -> Iterator[datetime]:
    """Yield the starts of the periods between two moments, in the current time zone."""
    start = period_start(timezone.localtime(first), kind)
    while start <= last:
        yield start
        start = next_period(start, kind)


def next_period(start: datetime, kind: str) -> datetime:
    return period_start(start + STEPS[kind], kind)


def period_start(moment: datetime, kind: str) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0, **FIRST_DAYS[kind])
