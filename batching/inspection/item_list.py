"""The items of a batch on its page: states, bodies as far as they fit, and bars on one scale of time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import Case, F, JSONField, Q, QuerySet, When
from django.utils import timezone

from batching.api.progress import length
from batching.conf import get_settings
from batching.inspection.badges import Badge, item_badge
from batching.inspection.item_filter import ItemFilter
from batching.inspection.waterfall import Bar, Interval, Scale, Tick, fit_scale
from batching.models import Batch, BatchItem
from batching.records.masking import mask_column
from wire.observe.durations import format_duration

MAX_ITEMS = 200
# Characters of all bodies on a page, and the minimum and maximum of one of them.
PAGE_CHARS = 400_000
MIN_BODY_CHARS = 1_000
MAX_BODY_CHARS = 20_000
# Of a path, an id or an error.
MAX_PATH_CHARS = 2_000
# A body of more than so many times what is shown of it isn't read.
READ_FACTOR = 5
BODIES = ("request_headers", "request_body", "response_headers", "response_body", "details")
# These may be as long as an answer.
LONG = ("response_body", "details")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A text as it is shown: all of it, or its beginning."""

    content: str
    length: int
    is_json: bool = False

    @property
    def is_cut(self) -> bool:
        return len(self.content) < self.length


def make_excerpt(value: Any, limit: int) -> Excerpt | None:
    """Return a body formatted for people; None if it is empty."""
    if value is None or value in ("", {}, []):
        return None
    if isinstance(value, str):
        return Excerpt(value[:limit], len(value))
    whole = json.dumps(value, indent=2, ensure_ascii=False)
    return Excerpt(whole[:limit], len(whole), is_json=True)


def body_limit(items: int, most: int) -> int:
    """Return the maximum of characters that are shown of each body."""
    return min(max(PAGE_CHARS // (2 * max(items, 1)), MIN_BODY_CHARS), most)


@dataclass(frozen=True)
class ItemRow:
    """An item as a line of the list, with its details."""

    item: BatchItem
    bar: Bar
    limit: int

    @property
    def badge(self) -> Badge:
        return item_badge(self.item.state, self.item.status)

    @property
    def run_time(self) -> str:
        """Return the run time as a short text."""
        if self.bar.interval.run_time is not None:
            return format_duration(self.bar.interval.run_time)
        return "never ran" if self.item.finished_at else "-"

    @property
    def timing(self) -> str:
        """Describe the bar."""
        waited, run_time = format_duration(self.bar.interval.wait_time), self.bar.interval.run_time
        if self.item.finished_at is None:
            return (
                f"has waited {waited}" if run_time is None else f"waited {waited}, has run {format_duration(run_time)}"
            )
        return f"waited {waited}, {'never ran' if run_time is None else f'ran {format_duration(run_time)}'}"

    @property
    def path(self) -> Excerpt:
        return Excerpt(self.item.path[:MAX_PATH_CHARS], len(self.item.path))

    @property
    def request_excerpts(self) -> Iterator[tuple[str, Excerpt]]:
        return self.excerpts(("Headers", self.item.request_headers), ("Body", self.item.request_body))

    @property
    def response_excerpts(self) -> Iterator[tuple[str, Excerpt]]:
        body = f"Body ({self.item.encoding})" if self.item.encoding else "Body"
        return self.excerpts(
            ("Error", self.item.error),
            ("Details", self.item.details),
            ("Headers", self.item.response_headers),
            (body, self.item.response_body),
        )

    def excerpts(self, *values: tuple[str, Any]) -> Iterator[tuple[str, Excerpt]]:
        for name, value in values:
            if text := make_excerpt(value, self.limit):
                yield name, text


def read_bodies(items: QuerySet[BatchItem], longest: int) -> QuerySet[BatchItem]:
    """Annotate the columns of LONG: `short_` is the value unless it is longer, `length_` the number of characters."""
    for column in LONG:
        items = items.annotate(**{f"length_{column}": length(column)})
        short = When(Q(**{f"length_{column}__lte": longest}), then=F(column))
        items = items.annotate(**{f"short_{column}": Case(short, output_field=JSONField())})
    return items


def mask_item(item: BatchItem, bodies: Sequence[str]) -> None:
    """Mask the credentials in an item that is only shown."""
    store = get_settings().BATCH_STORE_BODIES
    for column in LONG if bodies else ():
        value, chars = getattr(item, f"short_{column}"), getattr(item, f"length_{column}")
        setattr(item, column, f"Not shown: {chars:,} characters" if value is None and chars else value)
    for column in ("path", "error", *bodies):
        setattr(item, column, mask_column(column, getattr(item, column), store))


class ItemList:
    """The first items that match a filter, read by one query. `bodies`: read their bodies too."""

    def __init__(
        self, batch: Batch, item_filter: ItemFilter, *, bodies: bool = True, max_chars: int = MAX_BODY_CHARS
    ) -> None:
        self.batch = batch
        self.item_filter = item_filter
        self.bodies = bodies
        self.max_chars = max_chars

    @cached_property
    def fetched(self) -> Sequence[BatchItem]:
        chosen = self.item_filter.apply(self.batch.items.defer("call", *BODIES)).order_by("position")
        if self.bodies:
            chosen = read_bodies(chosen.defer(None).defer("call", *LONG), READ_FACTOR * self.max_chars)
        items = list(chosen[: MAX_ITEMS + 1])
        for item in items:
            mask_item(item, BODIES if self.bodies else ())
        return items

    @property
    def items(self) -> Sequence[BatchItem]:
        return self.fetched[:MAX_ITEMS]

    @cached_property
    def rows(self) -> list[ItemRow]:
        limit = body_limit(len(self.items), self.max_chars)
        return [ItemRow(item, self.scale.bar(self.interval(item)), limit) for item in self.items]

    @cached_property
    def scale(self) -> Scale:
        length = self.seconds(self.end) if self.begin == self.batch.created_at else 0.0
        return fit_scale([self.interval(item) for item in self.items], length=length)

    @property
    def ticks(self) -> list[Tick]:
        return self.scale.ticks()

    @property
    def is_part(self) -> bool:
        return len(self.items) < self.batch.total

    @property
    def last(self) -> int:
        return self.items[-1].position

    @property
    def last_requested(self) -> int:
        """Return the last position that the filter includes."""
        return min(self.item_filter.last, self.batch.total - 1)

    @property
    def earlier(self) -> str | None:
        """Return the query string of the page before, or of the first page of filtered items."""
        if not self.item_filter.first:
            return None
        return self.item_filter.query(
            first=0 if self.item_filter.is_filtered else max(self.item_filter.first - MAX_ITEMS, 0)
        )

    @property
    def later(self) -> str | None:
        return self.item_filter.query(first=self.last + 1) if len(self.fetched) > MAX_ITEMS else None

    @cached_property
    def begin(self) -> datetime:
        """Return the start of the time scale: of a part of a batch, the start of its first item."""
        starts = [item.started_at for item in self.items if item.started_at]
        return min(starts) if starts and self.is_part else self.batch.created_at

    @property
    def begin_offset(self) -> str:
        """Return how long after the call the scale begins; empty if it begins with the call."""
        late = (self.begin - self.batch.created_at).total_seconds()
        return format_duration(late) if late > 0 else ""

    @cached_property
    def end(self) -> datetime:
        """Return the last moment at which the batch is known to have run."""
        if self.batch.finished_at:
            return self.batch.finished_at
        return min(timezone.now(), self.batch.lease_expires_at or timezone.now())

    def interval(self, item: BatchItem) -> Interval:
        started = None if item.started_at is None else self.seconds(item.started_at)
        return Interval(self.seconds(item.queued_at), started, self.seconds(item.finished_at or self.end))

    def seconds(self, moment: datetime) -> float:
        return (moment - self.begin).total_seconds()
