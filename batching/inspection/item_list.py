"""A batch as a person inspects it: its items in words, on one scale of time, with as much of their bodies as fits."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.http import QueryDict
from django.utils import timezone

from batching.inspection.waterfall import Bar, Interval, Scale, Tick, scale_of
from batching.models import Batch, BatchItem
from wire.observe.durations import spoken

ITEMS_SHOWN = 200
# Characters of bodies in a page, and the least and the most of one of them.
PAGE_ROOM = 400_000
LEAST_ROOM = 1_000
MOST_ROOM = 20_000
# Of a path, an id or an error.
LINE_ROOM = 2_000
# Of an error, by which failures are grouped.
MESSAGE_CHARS = 200
# A position that no item has.
LAST = 99_999_999
BODIES = ("request_headers", "request_body", "response_headers", "response_body", "details")


@dataclass(frozen=True, slots=True)
class Text:
    """What is shown of a text: all of it, or its beginning."""

    content: str
    length: int
    is_json: bool = False

    @property
    def is_cut(self) -> bool:
        return len(self.content) < self.length


@dataclass(frozen=True, slots=True)
class Mark:
    """A state in a few words. `tone` is the class of its colour: good, warning, bad, quiet or busy."""

    tone: str
    label: str


def formatted(value: Any, room: int) -> Text | None:
    """Return a body in a form that people read; None where there is none."""
    if value is None or value in ("", {}, []):
        return None
    if isinstance(value, str):
        return Text(value[:room], len(value))
    whole = json.dumps(value, indent=2, ensure_ascii=False)
    return Text(whole[:room], len(whole), is_json=True)


def room_for(items: int, most: int) -> int:
    """Return how many characters of each body are shown."""
    return min(max(PAGE_ROOM // (2 * max(items, 1)), LEAST_ROOM), most)


def mark_of_batch(batch: Batch) -> Mark:
    if is_abandoned(batch):
        return Mark("bad", "running, lease over")
    tones = {Batch.Status.COMPLETED: "good", Batch.Status.CANCELLED: "quiet"}
    tone = "busy" if batch.status in Batch.OPEN else tones.get(Batch.Status(batch.status), "bad")
    return Mark(tone, batch.status)


def mark_of(state: str, status: int | None) -> Mark:
    """Return the mark of an item."""
    if state in (BatchItem.State.QUEUED, BatchItem.State.RUNNING):
        return Mark("busy", state)
    if status is None:
        return Mark("bad", state)
    label = f"{status} {phrase(status)}".strip()
    if state in (BatchItem.State.CANCELLED, BatchItem.State.EXPIRED):
        return Mark("quiet", f"{state}, {label}")
    return Mark("good" if status < 400 else "warning" if status < 500 else "bad", label)


def phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def is_abandoned(batch: Batch) -> bool:
    """Tell whether a batch reads `running` though its process is gone."""
    lease = batch.lease_expires_at
    return batch.status == Batch.Status.RUNNING and lease is not None and lease < timezone.now()


@dataclass(frozen=True)
class ItemRow:
    """An item as one line of the list, and what unfolds below it."""

    item: BatchItem
    bar: Bar
    room: int

    @property
    def mark(self) -> Mark:
        return mark_of(self.item.state, self.item.status)

    @property
    def ran(self) -> str:
        """Say how long it ran, short."""
        if self.bar.span.ran is not None:
            return spoken(self.bar.span.ran)
        return "never ran" if self.item.finished_at else "-"

    @property
    def timing(self) -> str:
        """Say what the bar shows."""
        waited, ran = spoken(self.bar.span.waited), self.bar.span.ran
        if self.item.finished_at is None:
            return f"has waited {waited}" if ran is None else f"waited {waited}, has run {spoken(ran)}"
        return f"waited {waited}, {'never ran' if ran is None else f'ran {spoken(ran)}'}"

    @property
    def path(self) -> Text:
        return Text(self.item.path[:LINE_ROOM], len(self.item.path))

    @property
    def asked(self) -> Iterator[tuple[str, Text]]:
        return self.parts(("Headers", self.item.request_headers), ("Body", self.item.request_body))

    @property
    def answered(self) -> Iterator[tuple[str, Text]]:
        body = f"Body ({self.item.encoding})" if self.item.encoding else "Body"
        return self.parts(
            ("Error", self.item.error),
            ("Details", self.item.details),
            ("Headers", self.item.response_headers),
            (body, self.item.response_body),
        )

    def parts(self, *named: tuple[str, Any]) -> Iterator[tuple[str, Text]]:
        for name, value in named:
            if text := formatted(value, self.room):
                yield name, text


@dataclass(frozen=True, slots=True)
class Choice:
    """Which items of a batch are looked at: from a position to another one, those that ended in some way."""

    first: int = 0
    last: int = LAST
    state: str = ""
    status: int | None = None
    error: str | None = None

    @property
    def is_filtered(self) -> bool:
        return bool(self.state) or self.status is not None or self.error is not None

    @property
    def is_range(self) -> bool:
        return self.first > 0 or self.last < LAST

    @property
    def description(self) -> str:
        """Say which items they are."""
        status = "" if self.status is None else f"status {self.status}"
        error = "" if self.error is None else f"“{self.error}”" if self.error else "no message"
        return ", ".join(part for part in (self.state, status, error) if part)

    def of(self, items: QuerySet[BatchItem]) -> QuerySet[BatchItem]:
        items = items.filter(position__gte=self.first, position__lte=self.last)
        if self.is_filtered:  # what is filtered has ended; said so, the database looks in the index of such items
            items = items.filter(finished_at__isnull=False)
        if self.state:
            items = items.filter(state=self.state)
        if self.status is not None:
            items = items.filter(status=self.status)
        if self.error is not None:
            items = items.annotate(message=Substr("error", 1, MESSAGE_CHARS)).filter(message=self.error)
        return items

    def query(self, **changed: Any) -> str:
        """Return the query that leads here, or to a neighbour."""
        here = {"first": self.first, "last": self.last, "state": self.state, "status": self.status, "error": self.error}
        usual = {"first": 0, "last": LAST, "state": ""}
        wanted = {name: value for name, value in {**here, **changed}.items() if value is not None}
        return urlencode({name: value for name, value in wanted.items() if value != usual.get(name)})


def choice_of(query: QueryDict) -> Choice:
    """Return what a page's query asks for; what can't be read asks for nothing."""
    state, error = query.get("state", ""), query.get("error")
    return Choice(
        first=number(query.get("first")) or 0,
        last=LAST if (last := number(query.get("last"))) is None else last,
        state=state if state in BatchItem.State.values else "",
        status=number(query.get("status")),
        error=None if error and "\0" in error else error,  # PostgreSQL refuses to look for it
    )


def number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else None


class Inspection:
    """The first of the items that are looked at, read by one query. `bodies` tells whether they may be read, too."""

    def __init__(self, batch: Batch, choice: Choice, *, bodies: bool = True, most_room: int = MOST_ROOM) -> None:
        self.batch = batch
        self.choice = choice
        self.bodies = bodies
        self.most_room = most_room

    @cached_property
    def found(self) -> Sequence[BatchItem]:
        unseen = ("call",) if self.bodies else ("call", *BODIES)
        chosen = self.choice.of(self.batch.items.defer(*unseen)).order_by("position")
        return list(chosen[: ITEMS_SHOWN + 1])

    @property
    def items(self) -> Sequence[BatchItem]:
        return self.found[:ITEMS_SHOWN]

    @cached_property
    def rows(self) -> list[ItemRow]:
        room = room_for(len(self.items), self.most_room)
        return [ItemRow(item, self.scale.bar(self.span(item)), room) for item in self.items]

    @cached_property
    def scale(self) -> Scale:
        length = self.seconds(self.end) if self.begin == self.batch.created_at else 0.0
        return scale_of([self.span(item) for item in self.items], length=length)

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
    def upto(self) -> int:
        """Return the last position that is asked for."""
        return min(self.choice.last, self.batch.total - 1)

    @property
    def earlier(self) -> str | None:
        """Return the query of what comes before; of filtered items, of the first ones."""
        if not self.choice.first:
            return None
        return self.choice.query(first=0 if self.choice.is_filtered else max(self.choice.first - ITEMS_SHOWN, 0))

    @property
    def later(self) -> str | None:
        return self.choice.query(first=self.last + 1) if len(self.found) > ITEMS_SHOWN else None

    @cached_property
    def begin(self) -> datetime:
        """The moment at which the scale of time begins: of a part of a batch, when the first of its items started."""
        starts = [item.started_at for item in self.items if item.started_at]
        return min(starts) if starts and self.is_part else self.batch.created_at

    @property
    def begins(self) -> str:
        """Say how long after the call the scale begins; nothing where it begins with the call."""
        late = (self.begin - self.batch.created_at).total_seconds()
        return spoken(late) if late > 0 else ""

    @cached_property
    def end(self) -> datetime:
        """The moment up to which the batch is known to have gone on."""
        if self.batch.finished_at:
            return self.batch.finished_at
        return min(timezone.now(), self.batch.lease_expires_at or timezone.now())

    def span(self, item: BatchItem) -> Interval:
        started = None if item.started_at is None else self.seconds(item.started_at)
        return Interval(self.seconds(item.queued_at), started, self.seconds(item.finished_at or self.end))

    def seconds(self, moment: datetime) -> float:
        return (moment - self.begin).total_seconds()
