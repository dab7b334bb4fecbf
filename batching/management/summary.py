"""A background batch as a few lines of text, for a terminal or a log."""

import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus

from django.core.management.base import OutputWrapper
from django.db.models import Count

from batching.models import Batch, BatchItem
from wire.observe.durations import format_duration

# Seconds between two lines where there is no terminal.
PACE = 10.0
BAR = 24


def line(batch: Batch) -> str:
    """Return a batch in one line."""
    owner = batch.owner or "anonymous"
    return f"{batch.pk}  {batch.status}  {counts_text(batch)}  {batch.get_priority_display()} priority, {owner}'s"


def counts_text(batch: Batch) -> str:
    ended = batch.total - batch.left
    bad = {"failed": batch.failed, "expired": batch.expired, "cancelled": batch.cancelled}
    named = "".join(f", {count:,} {name}" for name, count in bad.items() if count)
    return f"{ended:,} of {batch.total:,} ({ended * 100 // max(batch.total, 1)}%){named}"


def lines(batch: Batch) -> Iterator[str]:
    """Yield a batch's counts, times and failures as lines."""
    yield line(batch)
    yield "items: " + ", ".join(f"{count:,} {name}" for name, count in batch.counts.items())
    yield f"accepted: {moment(batch.created_at)}"
    if batch.duration is None:
        yield f"expires: {moment(batch.expires_at)}"
    else:
        yield f"took: {format_duration(batch.duration)}"
    if webhook := getattr(batch, "webhook", None):
        yield f"webhook: {webhook.state} after {webhook.attempts} attempts{webhook.error and f', {webhook.error}'}"
    yield from failures(batch)


def moment(of: datetime | None) -> str:
    return f"{of:%Y-%m-%d %H:%M:%S} UTC"


def failures(batch: Batch) -> Iterator[str]:
    """Yield a line for each status of failed items, the most frequent first."""
    bad = batch.items.filter(state__in=[BatchItem.State.FAILED, BatchItem.State.EXPIRED])
    by_status = bad.values_list("status").annotate(items=Count("pk")).order_by("-items", "status")
    for status, count in by_status:
        name = HTTPStatus(status).phrase if status in HTTPStatus else ""
        yield f"{count:>8,} x {status} {name}".rstrip()


class Progress:
    """The progress of a batch: one line that is redrawn on a terminal, elsewhere a line every few seconds."""

    def __init__(self, out: OutputWrapper) -> None:
        self.out = out
        self.live = out.isatty()
        self.began = time.monotonic()
        self.before: int | None = None
        self.written = ""
        self.written_at = 0.0

    def show(self, batch: Batch) -> None:
        text = f"{batch.status}, {counts_text(batch)}"
        if self.live:
            self.draw(batch, text)
        elif text != self.written and (batch.finished_at or time.monotonic() - self.written_at >= PACE):
            self.written, self.written_at = text, time.monotonic()
            self.out.write(text)

    def draw(self, batch: Batch, status: str) -> None:
        ended = batch.total - batch.left
        full = ended * BAR // max(batch.total, 1)
        text = f"[{'#' * full}{'.' * (BAR - full)}] {status}{self.pace(ended, batch.left)}"
        columns = shutil.get_terminal_size().columns - 1
        self.out.write(f"\r{text[:columns]:<{columns}}", ending="")
        self.out.flush()

    def pace(self, ended: int, left: int) -> str:
        """Return the rate and the estimated time left."""
        self.before = ended if self.before is None else self.before
        rate = (ended - self.before) / max(time.monotonic() - self.began, 0.001)
        return f", {rate:,.0f}/s, {format_duration(left / rate)} left" if rate and left else ""

    def close(self) -> None:
        """End the drawn line."""
        if self.live:
            self.out.write("")
