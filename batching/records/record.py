"""The rows of a batch: what was asked is written before the first item runs, how it ended in one go at the end."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.db import router, transaction
from django.utils import timezone

from batching.conf import get_settings
from batching.items.item import Item, ItemResponse
from batching.models import Batch, BatchItem
from batching.records.masking import MASK, is_secret, masked, masked_address, masked_query, unmasked
from batching.records.rows import Table
from batching.records.writer import notify
from batching.signals import batch_finished, item_finished

logger = logging.getLogger(__name__)

# How long past its time a batch's process may still be writing how it ended.
LEASE_MARGIN = timedelta(seconds=30)

# Of an item that nobody came to answer: the call was cut off before its batch was under way.
NEVER = ItemResponse(503, error="Not started: the client went away")

BATCHES, ITEMS = Table(Batch), Table(BatchItem)
BATCH_ASKED = tuple(BATCHES.columns)
BATCH_ENDED = ("status", "succeeded", "failed", "finished_at", "duration", "slowest", "lease_expires_at")
ITEM_ASKED = (
    *("batch_id", "position", "item_id", "state", "method", "path", "request_headers", "request_body", "depends_on"),
    *("response_headers", "encoding", "error", "truncated", "queued_at"),
)
ITEM_ENDED = (
    *("state", "status", "response_headers", "response_body", "encoding", "error", "details", "truncated"),
    *("started_at", "finished_at", "duration"),
)


class GivenUp(Exception):
    """Nobody waits for the rows any more: they are not to be."""


class Record:
    """A batch and its items as rows. `room` bounds a body that is kept.

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
        self.cut: set[Item] = set()
        self.given_up = False

    def open(self, lease: float) -> None:
        """Write what was asked; after `lease` seconds and a margin, what isn't closed counts as abandoned.

        Raises `IntegrityError` where the caller's Idempotency-Key is taken, and `GivenUp`.
        """
        batch = self.batch
        batch.started_at = batch.created_at
        batch.lease_expires_at = batch.created_at + timedelta(seconds=lease) + LEASE_MARGIN
        with transaction.atomic(using=router.db_for_write(Batch)):
            BATCHES.insert(BATCH_ASKED, [values(batch, BATCH_ASKED)])
            ITEMS.insert(ITEM_ASKED, [self.asked(item) for item in self.items])
            if self.given_up:
                raise GivenUp

    def close(self) -> None:
        """Write how it ended (`end` first), unless somebody else ended it, and tell observers."""
        with transaction.atomic(using=router.db_for_write(Batch)):
            mine = BATCHES.finish(BATCH_ENDED, ("id",), [[*values(self.batch, BATCH_ENDED), self.batch.pk]])
            if mine:
                ITEMS.finish(ITEM_ENDED, ("batch_id", "position"), [self.ended(item) for item in self.items])
        logger.info("batch=%s state=%s duration=%.3f", self.batch.pk, self.batch.status, self.batch.duration)
        if mine and (item_finished.has_listeners(BatchItem) or batch_finished.has_listeners(Batch)):
            notify(partial(tell, self.batch))

    def end(self, status: Batch.Status) -> None:
        """Take over how it ended."""
        batch = self.batch
        batch.status = status
        batch.succeeded = sum(item.answer is not None and item.answer.succeeded for item in self.items)
        batch.failed = batch.total - batch.succeeded
        batch.duration = round(time.monotonic() - self.began, 6)
        batch.finished_at = self.moment(time.monotonic())
        batch.slowest = max(item.processing_time for item in self.items)
        batch.lease_expires_at = None

    def moment(self, monotonic: float | None) -> datetime | None:
        """Return a monotonic moment as the time of day."""
        return None if monotonic is None else self.began_at + timedelta(seconds=monotonic - self.began)

    def asked(self, item: Item) -> list[Any]:
        """Return the values of ITEM_ASKED."""
        given = item.asked if isinstance(item.asked, dict) else {}
        headers = given.get("headers")
        return [
            *(self.batch.pk, item.position, text(item.id, 255), BatchItem.State.QUEUED),
            *(text(given.get("method"), 16).upper(), masked_address(text(given.get("path")))),
            masked(headers) if isinstance(headers, dict) else {},
            self.kept(item, None if self.store == "off" else asked_body(item, full=self.store == "full")),
            *(list(item.depends_on), {}, "", "", item in self.cut, self.batch.created_at),
        ]

    def ended(self, item: Item) -> list[Any]:
        """Return the values of ITEM_ENDED, and what finds the row."""
        answer = item.answer or NEVER
        body, details = self.kept(item, self.given(answer.body)), self.kept(item, self.given(answer.details))
        return [
            *(state(item, answer), answer.status, masked_headers(answer.headers), body),
            *(answer.encoding, text(answer.error), details, item in self.cut),
            *(self.moment(item.started), self.moment(item.finished) or timezone.now(), item.processing_time),
            *(self.batch.pk, item.position),
        ]

    def given(self, answered: Any) -> Any:
        """Return what is stored of an answer; with `off` only what the caller may still come for."""
        if self.store == "full":
            return unmasked(answered)
        is_owed = self.batch.is_background or self.batch.idempotency_key is not None
        return masked(answered) if self.store == "masked" or is_owed else None

    def kept(self, item: Item, body: Any) -> Any:
        """Return what is stored of a body: all of it, or the beginning of its text where it is too long."""
        if body is None or isinstance(body, bool | int | float):
            return body
        whole = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        if len(whole) <= self.room:
            return body
        self.cut.add(item)
        return whole[: self.room]


def values(batch: Batch, names: Sequence[str]) -> list[Any]:
    return [getattr(batch, name) for name in names]


def text(value: Any, longest: int | None = None) -> str:
    """Return a caller's or a view's text as a column takes it; empty for what isn't text."""
    return masked(value)[:longest] if isinstance(value, str) else ""


def asked_body(item: Item, *, full: bool) -> Any:
    """Return the body as it was asked for; of an item that can't be carried out, all of it."""
    body = item.asked if item.call is None else item.call.body
    if full:
        return unmasked(body)
    if item.call and isinstance(body, str) and "urlencoded" in item.call.headers.get("content-type", ""):
        return masked_query(body)
    return masked(body)


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: MASK if is_secret(name) else masked_address(value) for name, value in headers.items()}


def state(item: Item, answer: ItemResponse) -> BatchItem.State:
    if item.cancelled or answer is NEVER:
        return BatchItem.State.CANCELLED
    return BatchItem.State.SUCCEEDED if answer.succeeded else BatchItem.State.FAILED


def tell(batch: Batch) -> None:
    """Send the signals."""
    if item_finished.has_listeners(BatchItem):
        for row in batch.items.all():
            item_finished.send_robust(BatchItem, batch=batch, item=row)
    batch_finished.send_robust(Batch, batch=batch)
