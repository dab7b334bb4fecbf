"""Executes the items of a batch side by side, each after its dependencies, until all end or time is over."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest

from batching.errors import CallerError, FailedDependency
from batching.items import references, response
from batching.items.item import Item, ItemResponse
from batching.items.request_factory import RequestFactory
from batching.run import dispatch, relay
from batching.run.event_queue import EventQueue
from batching.run.pool import ItemWorkers
from wire.asgi.threads import give_connections_back
from wire.observe import tracing

logger = logging.getLogger(__name__)

# Seconds after which the thread that waits for a batch gives its database connection back.
LONG = 0.2


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """The limits of a batch: seconds from `began` (monotonic), items at once, characters of references' values.

    `max_bytes` is the size of the answer to an item.
    """

    began: float
    timeout: float
    concurrency: int
    max_chars: int
    max_bytes: int

    @property
    def deadline(self) -> float:
        return self.began + self.timeout


class BatchExecutor:
    """Executes the items of one batch; with `events`, their responses are streamed."""

    def __init__(
        self,
        items: Sequence[Item],
        *,
        batch_id: str,
        factory: RequestFactory,
        limits: ExecutionLimits,
        request_id: str = "",
        events: EventQueue | None = None,
    ) -> None:
        self._batch_id = batch_id
        self._traceparent = tracing.traceparent()
        self._items = items
        self._factory = factory
        self._limits = limits
        self._request_id = request_id
        self._events = events
        self._by_id = {item.id: item for item in items}
        self._dependents: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            for name in item.depends_on:
                self._dependents[name].append(item)

    @property
    def deadline(self) -> float:
        """The monotonic moment at which the batch times out."""
        return self._limits.deadline

    async def run(self) -> bool:
        """Return whether all items ended in time; when it returns, or is cancelled, each has a response.

        An item that hasn't started by then never starts. A view that still runs in a thread has no effect on the batch
        any more; one in the event loop is cancelled.
        """
        attributes = {"batch.id": self._batch_id, "batch.items": len(self._items)}
        with tracing.span("batch", attributes, parent=self._traceparent) as span:
            self._traceparent = tracing.traceparent()
            try:
                return await self._run()
            finally:
                succeeded = sum(item.response is not None and item.response.succeeded for item in self._items)
                span.note({"batch.succeeded": succeeded, "batch.failed": len(self._items) - succeeded})

    async def _run(self) -> bool:
        self._loop = asyncio.get_running_loop()
        self._left = sum(item.response is None for item in self._items)
        self._all_settled = asyncio.Event()
        eager = bool(self._events or self._dependents)
        self._workers = ItemWorkers(self._execute, self._settle, concurrency=self._limits.concurrency, eager=eager)
        try:
            self._start()
            await self._wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._workers.end()
        late = f"after {self._limits.timeout:g} s"
        return self._give_up(f"Not started: the batch ended {late}", f"Timed out {late}", status=504)

    def cancel(self, why: str = "the client went away") -> None:
        """Settle what is left as cancelled."""
        for item in self._items:
            item.cancelled = item.response is None
        self._give_up(f"Not started: {why}", f"Cancelled: {why}", status=503)

    def _start(self) -> None:
        for item in self._items:
            if item.response:
                self._announce(item)
            else:
                self._advance(item)
        if not self._left:
            self._all_settled.set()

    async def _wait(self) -> None:
        """Wait until all items are settled or time is over."""
        if not await self._settled_within(min(LONG, self._limits.timeout)):
            # In the thread that waits for this batch.
            await sync_to_async(give_connections_back)()
            await self._settled_within(self._limits.timeout)

    async def _settled_within(self, seconds: float) -> bool:
        """Tell whether all items are settled so many seconds after the batch began."""
        try:
            async with asyncio.timeout(self._limits.began + seconds - time.monotonic()):
                await self._all_settled.wait()
        except TimeoutError:
            return False
        return True

    def _give_up(self, not_started: str, not_finished: str, *, status: int) -> bool:
        """Settle what is left. Returns whether there was nothing left."""
        left = [item for item in self._items if not item.response]
        for item in left:
            item.settle(ItemResponse(status, error=not_started if item.prevent_start() else not_finished))
            self._announce(item)
        return not left

    # An item, from its dependencies to its dependents.

    def _advance(self, item: Item) -> None:
        """Queue an item if its dependencies are settled."""
        needed = [self._by_id[name] for name in item.depends_on]
        if item.response or not all(other.response for other in needed):
            return
        try:
            self._workers.put(item, self._request(item, needed))
        except CallerError as error:
            self._settle(item, ItemResponse.from_error(error))
        except Exception:  # an error of this app: the other items go on
            logger.exception("item=%s state=crashed", item.id)
            self._settle(item, response.CRASHED)

    def _request(self, item: Item, needed: list[Item]) -> HttpRequest:
        """Return the request of an item. Raises `CallerError` where it can't be executed."""
        for other in needed:
            if not other.response or not other.response.succeeded:
                raise FailedDependency(f"Failed dependency: {other.id}")
        request = item.request
        assert request  # noqa: S101  # for the type checker: an item without one is settled
        if item.has_references:
            bodies = {other.id: other.response.body for other in needed if other.response}
            request = references.resolve(request, bodies, self._factory.allowed, self._limits.max_chars)
        # Also tells this item from its neighbours in the log.
        defaults = {"x-request-id": f"{self._request_id}/{item.position}"} if self._request_id else {}
        return self._factory.request(request, defaults)

    def _settle(self, item: Item, response: ItemResponse, finished: float | None = None) -> None:
        """Take an item's response, unless it comes too late, and advance its dependents."""
        if not item.settle(response, finished):
            return
        self._announce(item)
        for other in self._dependents.get(item.id, ()):
            self._loop.call_soon(self._advance, other)
        self._left -= 1
        if not self._left:
            self._all_settled.set()

    def _announce(self, item: Item) -> None:
        """Stream the response of a settled item, if the batch is streamed."""
        if self._events:
            self._events.post({"type": "response", **item.represent()})

    # In a worker's thread.

    def _execute(self, item: Item, request: HttpRequest) -> ItemResponse:
        attributes: tracing.Attributes = {"batch.id": self._batch_id, "batch.item.position": item.position}
        span = partial(tracing.span, "item", attributes, parent=self._traceparent)
        return dispatch.execute(request, self._reader(item), streamed=self._events is not None, span=span)

    def _reader(self, item: Item) -> dispatch.ResponseReader:
        if self._events is None:
            return partial(response.read, max_bytes=self._limits.max_bytes)
        events = self._events

        async def relay_event(event: Any) -> None:
            await events.relay({"type": "item", "id": item.id, "event": event})

        return partial(relay.read, relay=relay_event, max_bytes=self._limits.max_bytes)
