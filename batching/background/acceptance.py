"""How a background batch comes in: its rows are committed in slices that nobody sees, and show all at once at the end.

One transaction for all of them would have a client that sends slowly keep everybody else from writing on SQLite. What
a process that was killed left half received is deleted once its lease is over, and never starts.
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
from batching.errors import (
    NotFinished,
    NothingToRetry,
    NotRecorded,
    StillRunning,
    SwitchedOff,
    TooManyQueued,
)
from batching.items import parse
from batching.items.item import Item
from batching.items.parse import Rules
from batching.items.request import restored, stored
from batching.models import KEY_LIFETIME, Batch, BatchItem, Webhook
from batching.records.record import ITEM_ASKED, ITEM_ENDED, ITEMS, Record
from batching.records.rows import SLICE
from wire.api.callers import caller_name
from wire.api.idempotency import KeyReused
from wire.observe import tracing

# Seconds after the last slice came, after which the process that received it counts as dead.
PATIENCE = 60.0

ITEM_KEPT = (*ITEM_ASKED, "call", "not_before")


class Acceptance:
    """A batch on its way in. Leaving the block before `publish`, or by an exception, leaves nothing."""

    def __init__(self, batch: Batch, *, rules: Rules, max_queued: int, room: int) -> None:
        self.batch = batch
        self.rules = rules
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

    def take(self, items: Iterable[Item]) -> None:
        """Write items, some perhaps answered already. Raises `CallerError` for what refuses the batch."""
        for some in batched(items, SLICE):
            self.write(some)
        if not self.batch.total:
            raise parse.refused("A batch has to have at least one item.")

    def write(self, items: tuple[Item, ...]) -> None:
        self.check(items)
        record = Record(self.batch, items, began=0.0, room=self.room)
        bad = [record.ended(item) for item in items if item.answer]
        with queue.atomic():
            ITEMS.insert(ITEM_KEPT, [[*record.asked(item), kept(item), self.batch.created_at] for item in items])
            ITEMS.finish(ITEM_ENDED, ("batch_id", "position"), bad)
            self.grow(len(items), failed=len(bad))

    def check(self, items: Iterable[Item]) -> None:
        for item in items:
            time.sleep(0)  # to whoever waits for this thread: so much work would keep an event loop waiting
            if isinstance(item.id, str) and item.id in self.ids:
                raise parse.refused(f"Two items have the id {item.id}.")
            self.ids.add(item.id)
            if item.position >= self.rules.max_size:
                raise parse.refused(f"A background batch may have {self.rules.max_size} items.")

    def grow(self, items: int, *, failed: int) -> None:
        """Count what has come. Raises `TooManyQueued`, and `NotRecorded` where others took this process for dead."""
        self.batch.total += items
        self.batch.failed += failed
        mine = Batch.objects.filter(pk=self.batch.pk, status=Batch.Status.RECEIVING)
        if not mine.update(total=self.batch.total, failed=self.batch.failed, lease_expires_at=lease()):
            raise NotRecorded
        left = F("total") - F("succeeded") - F("failed") - F("cancelled") - F("expired")
        theirs = Batch.objects.open_in_background().filter(caller=self.batch.caller)
        if theirs.aggregate(left=Sum(left))["left"] > self.max_queued:
            raise TooManyQueued(f"You may have {self.max_queued} items waiting in background batches.")

    def publish(self, request_hash: str, webhook: str = "") -> None:
        """Let the batch be seen and start. Raises `NotRecorded`."""
        with queue.atomic():
            mine = Batch.objects.filter(pk=self.batch.pk, status=Batch.Status.RECEIVING)
            if not mine.update(status=Batch.Status.QUEUED, lease_expires_at=None, request_hash=request_hash):
                raise NotRecorded
            if webhook:
                Webhook.objects.create(batch=self.batch, url=webhook)
            closed = queue.close([self.batch.pk])
        self.batch.refresh_from_db()
        queue.announce([], closed)


def lease() -> Any:
    return timezone.now() + timedelta(seconds=PATIENCE)


def kept(item: Item) -> str | None:
    """Return the request as it has to be sent, credentials in it included; of what is answered nothing is kept."""
    return None if item.call is None or item.answer else stored(item.call)


class ItemSource(Protocol):
    """What a background batch is made of. `hash` tells it from others once all its items have been read."""

    @property
    def hash(self) -> str: ...

    def items(self, rules: Rules) -> Iterable[Item]: ...


class JSONBody:
    """A body that came as one JSON text."""

    def __init__(self, data: Any) -> None:
        self.data = data

    @property
    def hash(self) -> str:
        return hashlib.sha256(b"respond-async\n" + json.dumps(self.data, sort_keys=True).encode()).hexdigest()

    def items(self, rules: Rules) -> Iterator[Item]:
        for item in parse.read(self.data, rules):
            parse.refuse_dependencies(item)
            yield item


class RetriedItems:
    """The items of a batch that failed and whose requests are kept, numbered anew."""

    hash = ""

    def __init__(self, parent: Batch) -> None:
        self.parent = parent

    def items(self, rules: Rules) -> Iterator[Item]:
        states = (BatchItem.State.FAILED, BatchItem.State.EXPIRED)
        failed = self.parent.items.filter(state__in=states, call__isnull=False).order_by("position")
        last, position = -1, 0
        while some := list(failed.filter(position__gt=last)[:SLICE]):
            for row in some:
                call = restored(row.call or "")
                asked = {"method": call.method, "path": call.path, "headers": call.headers}
                yield Item(position, row.item_id, asked, call=call)
                position += 1
            last = some[-1].position
        if not position:
            raise NothingToRetry


def batch_for(user: Any, settings: BatchingSettings, *, expires_after: float | None = None, **fields: Any) -> Batch:
    """Return a batch of a user's that is to be accepted now; it may take `expires_after` seconds."""
    now = timezone.now()
    return Batch(
        owner=user if user.is_authenticated else None,
        caller=caller_name(user),
        created_at=now,
        expires_at=now + timedelta(seconds=expires_after or settings.BATCH_EXPIRES_AFTER),
        **fields,
    )


def accept(batch: Batch, body: ItemSource, *, rules: Rules, settings: BatchingSettings, webhook: str = "") -> None:
    """Commit a batch: when this returns, it will be carried out whatever becomes of this process.

    `webhook` is where its caller wants to be told of its end. Raises `CallerError` and `NotRecorded`, and then nothing
    is left of it.
    """
    room = settings.BATCH_STORED_BODY_BYTES
    with tracing.span("batch", {"batch.id": batch.pk}, kind="producer") as span:
        # What the spans of its items refer to, in whichever process they are made.
        batch.origin = {**(batch.origin or {}), **tracing.headers()} or None
        with Acceptance(batch, rules=rules, max_queued=settings.BATCH_MAX_QUEUED, room=room) as coming:
            coming.take(body.items(rules))
            coming.publish(body.hash, webhook)
        span.note({"batch.items": batch.total})


def retry(parent: Batch, batch: Batch, *, script_name: str, settings: BatchingSettings, webhook: str = "") -> None:
    """Commit the items of `parent` that failed or expired as `batch`.

    Raises as `accept` does, and `SwitchedOff`, `NotFinished` and `NothingToRetry`.
    """
    if not settings.BATCH_ENABLED:
        raise SwitchedOff
    if not parent.finished_at:
        raise NotFinished
    if not parent.retry_before:
        raise NothingToRetry
    batch.parent, batch.priority = parent, parent.priority
    rules = Rules(max_size=parent.total, allowed=settings.BATCH_ALLOWED_PATHS, script_name=script_name)
    accept(batch, RetriedItems(parent), rules=rules, settings=settings, webhook=webhook)


def again(parent: Batch, *, request_id: str, settings: BatchingSettings) -> Batch:
    """Commit what failed or expired of a batch as a new one of its own caller, whoever asks for it; return that.

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


def known(batch: Batch, body: ItemSource, rules: Rules) -> Batch | None:
    """Return the batch that the caller's Idempotency-Key stands for. Raises `StillRunning` and `KeyReused`."""
    if batch.idempotency_key is None:
        return None
    keyed = Batch.objects.filter(caller=batch.caller, idempotency_key=batch.idempotency_key)
    keyed.filter(finished_at__lt=timezone.now() - KEY_LIFETIME).update(idempotency_key=None)
    found = keyed.first()
    if found and found.status == Batch.Status.RECEIVING:
        reaper.forget(found, lease_expires_at__lt=timezone.now())
        found = keyed.first()
    if found and found.status == Batch.Status.RECEIVING:
        raise StillRunning
    if found:
        deque(body.items(rules), maxlen=0)
        if body.hash != found.request_hash:
            raise KeyReused
    return found
