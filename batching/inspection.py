"""A batch as a person inspects it: its items in words, on one scale of time, with as much of their bodies as fits."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any

from django.utils import timezone

from batching.models import Batch, BatchItem
from batching.waterfall import Bar, Scale, Span, Tick, scale_of, spoken

ITEMS_SHOWN = 200
# Characters of bodies in a page, and the least and the most of one of them.
PAGE_ROOM = 400_000
LEAST_ROOM = 1_000
MOST_ROOM = 20_000
# Of a path, an id or an error.
LINE_ROOM = 2_000


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


def room_for(items: int) -> int:
    """Return how many characters of each body are shown."""
    return min(max(PAGE_ROOM // (2 * max(items, 1)), LEAST_ROOM), MOST_ROOM)


def mark_of_batch(batch: Batch) -> Mark:
    if is_abandoned(batch):
        return Mark("bad", "running, lease over")
    tones = {Batch.Status.COMPLETED: "good", Batch.Status.CANCELLED: "quiet"}
    tone = "busy" if batch.status in Batch.OPEN else tones.get(Batch.Status(batch.status), "bad")
    return Mark(tone, batch.status)


def mark_of_item(item: BatchItem) -> Mark:
    if item.state in (BatchItem.State.QUEUED, BatchItem.State.RUNNING):
        return Mark("busy", item.state)
    if item.status is None:
        return Mark("bad", item.state)
    label = f"{item.status} {phrase(item.status)}".strip()
    if item.state == BatchItem.State.CANCELLED:
        return Mark("quiet", f"cancelled, {label}")
    return Mark("good" if item.status < 400 else "warning" if item.status < 500 else "bad", label)


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
class Row:
    """An item as one line of the list, and what unfolds below it."""

    item: BatchItem
    bar: Bar
    room: int

    @property
    def mark(self) -> Mark:
        return mark_of_item(self.item)

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


class Inspection:
    """Some items of a batch, from a position on, read by one query."""

    def __init__(self, batch: Batch, first: int = 0) -> None:
        self.batch = batch
        self.first = first

    @cached_property
    def items(self) -> Sequence[BatchItem]:
        return list(self.batch.items.filter(position__gte=self.first).defer("call").order_by("position")[:ITEMS_SHOWN])

    @cached_property
    def rows(self) -> list[Row]:
        room = room_for(len(self.items))
        return [Row(item, self.scale.bar(self.span(item)), room) for item in self.items]

    @cached_property
    def scale(self) -> Scale:
        return scale_of([self.span(item) for item in self.items], length=self.seconds(self.end))

    @property
    def ticks(self) -> list[Tick]:
        return self.scale.ticks()

    @property
    def is_part(self) -> bool:
        return len(self.items) < self.batch.total

    @property
    def last(self) -> int:
        return self.first + len(self.items)

    @property
    def earlier(self) -> int | None:
        return max(self.first - ITEMS_SHOWN, 0) if self.first else None

    @property
    def later(self) -> int | None:
        return self.last if self.last < self.batch.total and self.items else None

    @cached_property
    def end(self) -> datetime:
        """The moment up to which the batch is known to have gone on."""
        if self.batch.finished_at:
            return self.batch.finished_at
        return min(timezone.now(), self.batch.lease_expires_at or timezone.now())

    def span(self, item: BatchItem) -> Span:
        started = None if item.started_at is None else self.seconds(item.started_at)
        return Span(self.seconds(item.queued_at), started, self.seconds(item.finished_at or self.end))

    def seconds(self, moment: datetime) -> float:
        return max((moment - self.batch.created_at).total_seconds(), 0.0)
