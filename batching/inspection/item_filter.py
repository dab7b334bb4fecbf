"""Which items of a batch a page shows, from its query and back."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.db.models.functions import Substr
from django.http import QueryDict

from batching.models import BatchItem
from batching.records.masking import mask

# Failures are grouped by so much of their error.
MAX_MESSAGE_CHARS = 200
# A position that no item has.
MAX_POSITION = 99_999_999


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """A range of positions, and a state, status or error of items."""

    first: int = 0
    last: int = MAX_POSITION
    state: str = ""
    status: int | None = None
    error: str | None = None

    @property
    def is_filtered(self) -> bool:
        return bool(self.state) or self.status is not None or self.error is not None

    @property
    def is_range(self) -> bool:
        return self.first > 0 or self.last < MAX_POSITION

    @property
    def description(self) -> str:
        """Return the state, status and error as text."""
        status = "" if self.status is None else f"status {self.status}"
        error = "" if self.error is None else f"“{mask(self.error)}”" if self.error else "no message"
        return ", ".join(part for part in (self.state, status, error) if part)

    def apply(self, items: QuerySet[BatchItem]) -> QuerySet[BatchItem]:
        items = items.filter(position__gte=self.first, position__lte=self.last)
        if self.is_filtered:  # only such items match; with this condition the database uses their index
            items = items.filter(finished_at__isnull=False)
        if self.state:
            items = items.filter(state=self.state)
        if self.status is not None:
            items = items.filter(status=self.status)
        if self.error is not None:
            items = items.annotate(message=Substr("error", 1, MAX_MESSAGE_CHARS)).filter(message=self.error)
        return items

    def query(self, **changes: Any) -> str:
        """Return the page's query string for this filter, or for one with changes."""
        current = {
            "first": self.first,
            "last": self.last,
            "state": self.state,
            "status": self.status,
            "error": self.error,
        }
        defaults = {"first": 0, "last": MAX_POSITION, "state": ""}
        values = {name: value for name, value in {**current, **changes}.items() if value is not None}
        return urlencode({name: value for name, value in values.items() if value != defaults.get(name)})


def parse_filter(query: QueryDict) -> ItemFilter:
    """Return the filter of a page's query string; invalid values are ignored."""
    state, error = query.get("state", ""), query.get("error")
    return ItemFilter(
        first=parse_number(query.get("first")) or 0,
        last=MAX_POSITION if (last := parse_number(query.get("last"))) is None else last,
        state=state if state in BatchItem.State.values else "",
        status=parse_number(query.get("status")),
        error=None if error and "\0" in error else error,  # PostgreSQL refuses to search for it
    )


def parse_number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else None
