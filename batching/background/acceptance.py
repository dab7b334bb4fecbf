"""Accepts a background batch: commits its rows in slices that stay hidden, and publishes them all at the end.

In a single transaction, a client that sends slowly would keep all others from writing on SQLite. A batch that a killed
process left half received never starts, and is deleted once its lease has expired.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import batched
from types import TracebackType
from typing import Any, Protocol, Self

from django.db import IntegrityError
from django.db.models import F, Sum
from django.utils import timezone

from batching.background import queue, reaper
from batching.conf import BatchingSettings
from batching.errors import BatchesDisabled, NotFinished, NothingToRetry, NotRecorded, StillRunning, TooManyQueued
from batching.items import parse
from batching.items.item import Item, ItemRequest
from batching.items.paths import AllowedPaths
from batching.models import Batch, BatchItem, Webhook
from batching.records.record import ITEM_REQUEST_COLUMNS, ITEM_RESPONSE_COLUMNS, ITEMS, Record
from batching.records.rows import SLICE
from wire.api.callers import caller_name
from wire.api.idempotency import refuse_reuse, rows_of_key
from wire.observe import tracing

# Seconds without a further slice after which the receiving process counts as dead.
PATIENCE = 60.0

ITEM_COLUMNS = (*ITEM_REQUEST_COLUMNS, "call", "not_before")


class Acceptance:
    """Receives the items of a batch. Leaving the block before `publish`, or by an exception, deletes them."""

    def __init__(self, batch: Batch, *, max_size: int, max_queued: int, room: int) -> None:
        self.batch = batch
        self.max_size = max_size
        self.max_queued = max_queued
        self.room = room
        self.ids: set[str] = set()

    def __enter__(self) -> Self:
        self.batch.status = Batch.Status.RECEIVING
        self.batch.total = 0
        self.batch.lease_expires_at = lease()
        try:
            self.batch.save(force_insert=True)
        except IntegrityError:  # the same Idempotency-Key, at the same time
            raise StillRunning from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        reaper.forget(self.batch)

    def receive(self, items: Iterable[Item]) -> None:
        """Write the items, of which bad ones are settled. Raises `CallerError` for a bad batch."""
        for some in batched(items, SLICE):
            self.write(some)
        if not self.batch.total:
            raise parse.bad_batch("A batch has to have at least one item.")

    def write(self, items: tuple[Item, ...]) -> None:
        self.check(items)
        record = Record(self.batch, items, began=0.0, room=self.room)
        bad = [record.response_values(item) for item in items if item.response]
        rows = [[*record.request_values(item), stored_request(item), self.batch.created_at] for item in items]
        with queue.atomic():
            ITEMS.insert(ITEM_COLUMNS, rows)
            ITEMS.finish(ITEM_RESPONSE_COLUMNS, ("batch_id", "position"), bad)
            self.add_counts(len(items), failed=len(bad))

    def check(self, items: Iterable[Item]) -> None:
        for item in items:
            time.sleep(0)  # gives way to other threads: an event loop would wait long for this one
            if isinstance(item.id, str) and item.id in self.ids:
                raise parse.bad_batch(f"Two items have the id {item.id}.")
            self.ids.add(item.id)
            if item.position >= self.max_size:
                raise parse.bad_batch(f"A background batch may have {self.max_size} items.")

    def add_counts(self, items: int, *, failed: int) -> None:
        """Count the items. Raises `TooManyQueued`, and `NotRecorded` where a reaper took this process for dead."""
        self.batch.total += items
        self.batch.failed += failed
        receiving = Batch.objects.filter(pk=self.batch.pk, status=Batch.Status.RECEIVING)
        if not receiving.update(total=self.batch.total, failed=self.batch.failed, lease_expires_at=lease()):
            raise NotRecorded
        left = F("total") - F("succeeded") - F("failed") - F("cancelled") - F("expired")
        open_batches = Batch.objects.open_in_background().filter(caller=self.batch.caller)
        if open_batches.aggregate(left=Sum(left))["left"] > self.max_queued:
            raise TooManyQueued(f"You may have {self.max_queued} items waiting in background batches.")

    def publish(self, request_hash: str, webhook: str = "") -> None:
        """Show the batch and let it start. Raises `NotRecorded`."""
        with queue.atomic():
            receiving = Batch.objects.filter(pk=self.batch.pk, status=Batch.Status.RECEIVING)
            if not receiving.update(status=Batch.Status.QUEUED, lease_expires_at=None, request_hash=request_hash):
                raise NotRecorded
            if webhook:
                Webhook.objects.create(batch=self.batch, url=webhook)
            closed = queue.close([self.batch.pk])
        self.batch.refresh_from_db()
        queue.send_signals([], closed)


def lease() -> Any:
    return timezone.now() + timedelta(seconds=PATIENCE)


def stored_request(item: Item) -> str | None:
    """Return the request for `ItemRequest.load`, credentials included; None for a settled item."""
    return None if item.request is None or item.response else item.request.dump()


class ItemSource(Protocol):
    """The items of a background batch. `hash` identifies the body once all items have been read."""

    @property
    def hash(self) -> str: ...

    def items(self, allowed: AllowedPaths) -> Iterable[Item]: ...


class JSONBody:
    """A body that is one JSON text."""

    def __init__(self, data: Any, max_size: int) -> None:
        self.data = data
        self.max_size = max_size

    @property
    def hash(self) -> str:
        return hashlib.sha256(b"respond-async\n" + json.dumps(self.data, sort_keys=True).encode()).hexdigest()

    def items(self, allowed: AllowedPaths) -> Iterator[Item]:
        for item in parse.parse_batch(self.data, allowed, max_size=self.max_size):
            parse.refuse_dependencies(item)
            yield item


class RetriedItems:
    """The failed items of a batch, as far as their requests are still stored, with new positions."""

    hash = ""

    def __init__(self, parent: Batch) -> None:
        self.parent = parent

    def items(self, allowed: AllowedPaths) -> Iterator[Item]:
        states = (BatchItem.State.FAILED, BatchItem.State.EXPIRED)
        failed = self.parent.items.filter(state__in=states, call__isnull=False).order_by("position")
        last, position = -1, 0
        while some := list(failed.filter(position__gt=last)[:SLICE]):
            for row in some:
                request = ItemRequest.load(row.call or "")
                raw = {"method": request.method, "path": request.path, "headers": request.headers}
                yield Item(position, row.item_id, raw, request)
                position += 1
            last = some[-1].position
        if not position:
            raise NothingToRetry


def batch_for(user: Any, settings: BatchingSettings, *, expires_after: float | None = None, **fields: Any) -> Batch:
    """Return a new batch of a user, which expires after so many seconds."""
    now = timezone.now()
    return Batch(
        owner=user if user.is_authenticated else None,
        caller=caller_name(user),
        created_at=now,
        expires_at=now + timedelta(seconds=expires_after or settings.BATCH_EXPIRES_AFTER),
        **fields,
    )


def accept(
    batch: Batch,
    body: ItemSource,
    *,
    allowed: AllowedPaths,
    max_size: int,
    settings: BatchingSettings,
    webhook: str = "",
) -> None:
    """Commit a batch: when this returns, it will be executed even if this process dies.

    `webhook` is the URL that gets a message when the batch has ended. Raises `CallerError` and `NotRecorded`, and then
    nothing of the batch is left.
    """
    room = settings.BATCH_STORED_BODY_BYTES
    with tracing.span("batch", {"batch.id": batch.pk}, kind="producer") as span:
        # The spans of its items link to this one, in any process.
        batch.origin = {**(batch.origin or {}), **tracing.headers()} or None
        with Acceptance(batch, max_size=max_size, max_queued=settings.BATCH_MAX_QUEUED, room=room) as acceptance:
            acceptance.receive(body.items(allowed))
            acceptance.publish(body.hash, webhook)
        span.note({"batch.items": batch.total})


def retry(parent: Batch, batch: Batch, *, script_name: str, settings: BatchingSettings, webhook: str = "") -> None:
    """Commit the failed and expired items of `parent` as `batch`.

    Raises as `accept` does, and `BatchesDisabled`, `NotFinished` and `NothingToRetry`.
    """
    if not settings.BATCH_ENABLED:
        raise BatchesDisabled
    if not parent.finished_at:
        raise NotFinished
    if not parent.retry_before:
        raise NothingToRetry
    batch.parent, batch.priority = parent, parent.priority
    allowed = AllowedPaths(settings.BATCH_ALLOWED_PATHS, script_name)
    accept(batch, RetriedItems(parent), allowed=allowed, max_size=parent.total, settings=settings, webhook=webhook)


def retry_as_owner(parent: Batch, *, request_id: str, settings: BatchingSettings) -> Batch:
    """Commit the failed and expired items of a batch as a new batch of the same caller, and return it.

    Raises as `retry` does.
    """
    now = timezone.now()
    batch = Batch(
        owner_id=parent.owner_id,
        caller=parent.caller,
        request_id=request_id,
        client_address=parent.client_address,
        created_at=now,
        expires_at=now + timedelta(seconds=settings.BATCH_EXPIRES_AFTER),
        origin=parent.origin,
        identity=parent.identity,
    )
    retry(parent, batch, script_name=(parent.origin or {}).get("root_path", ""), settings=settings)
    return batch


def find_replay(batch: Batch, body: ItemSource, allowed: AllowedPaths) -> Batch | None:
    """Return the earlier batch of the caller's Idempotency-Key. Raises `StillRunning` and `KeyReused`."""
    if batch.idempotency_key is None:
        return None
    rows = rows_of_key(Batch.objects.all(), batch.caller, batch.idempotency_key, since="finished_at")
    earlier: Batch | None = rows.first()
    if earlier and earlier.status == Batch.Status.RECEIVING:
        reaper.forget(earlier, lease_expires_at__lt=timezone.now())
        earlier = rows.first()
    if earlier and earlier.status == Batch.Status.RECEIVING:
        raise StillRunning
    if earlier:
        deque(body.items(allowed), maxlen=0)
        refuse_reuse(earlier, body.hash)
    return earlier
