"""The rows of a batch: requests are written before the first item starts, responses in one go at the end."""

import json
import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from batching.conf import get_settings
from batching.items.item import Item, ItemResponse
from batching.items.parse import ID_MAX_CHARS
from batching.models import Batch, BatchItem
from batching.records.masking import convert, mask, mask_address, mask_headers, mask_query, preserve, sanitize
from batching.records.rows import Table
from batching.records.writer import notify
from batching.signals import batch_finished, item_finished

logger = logging.getLogger(__name__)

# How long after its timeout a batch's process may still write the end.
LEASE_MARGIN = timedelta(seconds=30)

# Of an item without a response: the call was cut off before its batch was executed.
NOT_STARTED = ItemResponse(503, error="Not started: the client went away")

BATCHES, ITEMS = Table(Batch), Table(BatchItem)
BATCH_COLUMNS = tuple(BATCHES.columns)
BATCH_END_COLUMNS = ("status", "succeeded", "failed", "finished_at", "duration", "slowest", "lease_expires_at")
ITEM_REQUEST_COLUMNS = (
    *("batch_id", "position", "item_id", "state", "method", "path", "request_headers", "request_body", "depends_on"),
    *("response_headers", "encoding", "error", "truncated", "queued_at", "given_id"),
)
ITEM_RESPONSE_COLUMNS = (
    *("state", "status", "response_headers", "response_body", "encoding", "error", "details", "truncated"),
    *("started_at", "finished_at", "duration"),
)


class Abandoned(Exception):
    """The call has ended without its rows: they must not be committed."""


class Record:
    """A batch and its items as rows. `room` is the size of a stored body that the caller doesn't fetch later.

    `began` is the monotonic moment of `began_at`, or of the call.
    """

    def __init__(
        self, batch: Batch, items: Sequence[Item], *, began: float, room: int, began_at: datetime | None = None
    ) -> None:
        self.batch = batch
        self.began_at = began_at or batch.created_at
        self.items = items
        self.began = began
        self.room = room
        self.store = get_settings().BATCH_STORE_BODIES
        self.truncated: set[Item] = set()
        self.abandoned = False

    def open(self, lease: float) -> None:
        """Write the requests; a batch that isn't closed after `lease` seconds and a margin counts as abandoned.

        Raises `IntegrityError` where the caller's Idempotency-Key is taken, and `Abandoned`.
        """
        batch = self.batch
        batch.started_at = batch.created_at
        batch.lease_expires_at = batch.created_at + timedelta(seconds=lease) + LEASE_MARGIN
        with transaction.atomic(using=router.db_for_write(Batch)):
            BATCHES.insert(BATCH_COLUMNS, [values(batch, BATCH_COLUMNS)])
            ITEMS.insert(ITEM_REQUEST_COLUMNS, [self.request_values(item) for item in self.items])
            if self.abandoned:
                raise Abandoned

    def close(self) -> None:
        """Write the end (after `end`), unless another process has ended the batch, and send the signals."""
        with transaction.atomic(using=router.db_for_write(Batch)):
            row = [*values(self.batch, BATCH_END_COLUMNS), self.batch.pk]
            ended_here = BATCHES.finish(BATCH_END_COLUMNS, ("id",), [row])
            if ended_here:
                rows = [self.response_values(item) for item in self.items]
                ITEMS.finish(ITEM_RESPONSE_COLUMNS, ("batch_id", "position"), rows)
        logger.info("batch=%s state=%s duration=%.3f", self.batch.pk, self.batch.status, self.batch.duration)
        if ended_here and (item_finished.has_listeners(BatchItem) or batch_finished.has_listeners(Batch)):
            notify(partial(send_signals, self.batch))

    def end(self, status: Batch.Status) -> None:
        """Set the end of the batch from its items."""
        batch = self.batch
        batch.status = status
        batch.succeeded = sum(item.response is not None and item.response.succeeded for item in self.items)
        batch.failed = batch.total - batch.succeeded
        batch.duration = round(time.monotonic() - self.began, 6)
        batch.finished_at = self.moment(time.monotonic())
        batch.slowest = max(item.processing_time for item in self.items)
        batch.lease_expires_at = None

    def moment(self, monotonic: float | None) -> datetime | None:
        """Return a monotonic moment as the time of day."""
        return None if monotonic is None else self.began_at + timedelta(seconds=monotonic - self.began)

    def request_values(self, item: Item) -> list[Any]:
        """Return the values of ITEM_REQUEST_COLUMNS."""
        raw = item.raw if isinstance(item.raw, dict) else {}
        headers = raw.get("headers")
        return [
            *(self.batch.pk, item.position, text(item.id, ID_MAX_CHARS), BatchItem.State.QUEUED),
            *(text(raw.get("method"), 16).upper(), mask_address(text(raw.get("path")))),
            mask(headers) if isinstance(headers, dict) else {},
            self.truncate(
                item, None if self.store == "off" else request_body(item, self.room, full=self.store == "full")
            ),
            *(list(item.depends_on), {}, "", "", item in self.truncated, self.batch.created_at),
            given_id(item),
        ]

    def response_values(self, item: Item) -> list[Any]:
        """Return the values of ITEM_RESPONSE_COLUMNS, and those that find the row."""
        response = item.response or NOT_STARTED
        headers, body, details, error = self.response_parts(item, response)
        return [
            *(state(item, response), response.status, headers, body),
            *(response.encoding, error, details, item in self.truncated),
            *(self.moment(item.started), self.moment(item.finished) or timezone.now(), item.processing_time),
            *(self.batch.pk, item.position),
        ]

    def response_parts(self, item: Item, response: ItemResponse) -> tuple[Any, Any, Any, str]:
        """Return headers, body, details and error: whole and for `restore`, if the caller may fetch them later."""
        if self.batch.is_fetched_later:
            headers, body = preserve(response.headers), preserve(response.body)
            return headers, body, preserve(response.details), preserve(response.error)
        body, details = (self.truncate(item, self.storable(part)) for part in (response.body, response.details))
        return mask_headers(response.headers), body, details, text(response.error)

    def storable(self, body: Any) -> Any:
        """Return a response's body as it is stored for the admin."""
        if self.store == "off":
            return None
        return sanitize(body) if self.store == "full" else mask(shorten(body, self.room))

    def truncate(self, item: Item, body: Any) -> Any:
        """Return a body, or the beginning of its text where it is too long."""
        if body is None or isinstance(body, bool | int | float):
            return body
        whole = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        if len(whole) <= self.room:
            return body
        self.truncated.add(item)
        return whole[: self.room]


def values(batch: Batch, names: Sequence[str]) -> list[Any]:
    return [getattr(batch, name) for name in names]


def text(value: Any, longest: int | None = None) -> str:
    """Return a caller's or a view's text as a column takes it; empty for any other type."""
    return sanitize(value)[:longest] if isinstance(value, str) else ""


def shorten(body: Any, room: int) -> Any:
    """Cut texts that don't fit anyway, but not so far that they would: masking them would take long."""
    return convert(body, lambda text: text[: room + 1])


def given_id(item: Item) -> Any:
    """Return the id of an item if `item_id` can't hold it: a number, nothing, or too long."""
    return None if item.id and item.id == text(item.id, ID_MAX_CHARS) else item.id


def request_body(item: Item, room: int, *, full: bool) -> Any:
    """Return the body of an item's request; the whole item where it can't be executed."""
    request = item.request
    body = request.body if request else item.raw
    if full:
        return sanitize(body)
    body = shorten(body, room)
    if request and isinstance(body, str) and "urlencoded" in request.headers.get("content-type", ""):
        return mask_query(body)
    return mask(body)


def state(item: Item, response: ItemResponse) -> BatchItem.State:
    if item.cancelled or response is NOT_STARTED:
        return BatchItem.State.CANCELLED
    return BatchItem.State.SUCCEEDED if response.succeeded else BatchItem.State.FAILED


def send_signals(batch: Batch) -> None:
    """Send `item_finished` for each item, and `batch_finished`."""
    if item_finished.has_listeners(BatchItem):
        for row in batch.items.all():
            item_finished.send_robust(BatchItem, batch=batch, item=row)
    batch_finished.send_robust(Batch, batch=batch)
