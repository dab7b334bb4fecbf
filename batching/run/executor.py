"""A batch under way: its items side by side, each after those it builds on, until all are answered or time is over."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async

from batching.errors import CallerError, FailedDependency
from batching.items import response
from batching.items.item import Item, ItemResponse
from batching.items.parse import Rules
from batching.items.request import filled, prepared
from batching.items.request_factory import PreparedRequest, RequestFactory
from batching.run import dispatch, relay
from batching.run.event_queue import EventQueue
from batching.run.pool import ItemWorkers
from wire.asgi.threads import give_connections_back
from wire.observe import tracing

logger = logging.getLogger(__name__)

# Seconds after which whoever waits for a batch gives his database connection back.
LONG = 0.2


@dataclass(frozen=True, slots=True)
class Terms:
    """What a batch is held to: seconds from `began` (monotonic), places in this process, characters of references."""

    began: float
    timeout: float
    concurrency: int
    max_chars: int
    rules: Rules


class Execution:
    """The items of one batch on their way to their answers."""

    def __init__(
        self,
        items: Sequence[Item],
        *,
        batch_id: str,
        origin: RequestFactory,
        terms: Terms,
        request_id: str = "",
        events: EventQueue | None = None,
    ) -> None:
        self._batch_id = batch_id
        self._traceparent = tracing.traceparent()
        self._items = items
        self._origin = origin
        self._terms = terms
        self._request_id = request_id
        self._events = events
        self._by_id = {item.id: item for item in items}
        self._dependents: dict[str, list[Item]] = defaultdict(list)
        for item in items:
            for name in item.depends_on:
                self._dependents[name].append(item)

    @property
    def deadline(self) -> float:
        """The monotonic moment at which its time is over."""
        return self._terms.began + self._terms.timeout

    async def run(self) -> bool:
        """Return whether all items were answered in time; when it returns, or is cancelled, each has its answer.

        What hasn't started by then never starts. What runs on in a thread has no effect on the batch any more; what
        runs in the event loop is cancelled.
        """
        attributes = {"batch.id": self._batch_id, "batch.items": len(self._items)}
        with tracing.span("batch", attributes, parent=self._traceparent) as span:
            self._traceparent = tracing.traceparent()
            try:
                return await self._run()
            finally:
                succeeded = sum(item.answer is not None and item.answer.succeeded for item in self._items)
                span.note({"batch.succeeded": succeeded, "batch.failed": len(self._items) - succeeded})

    async def _run(self) -> bool:
        self._loop = asyncio.get_running_loop()
        self._left = sum(item.answer is None for item in self._items)
        self._all_answered = asyncio.Event()
        eager = bool(self._events or self._dependents)
        self._workers = ItemWorkers(self._carry_out, self._settle, concurrency=self._terms.concurrency, eager=eager)
        try:
            self._start()
            await self._wait()
        except asyncio.CancelledError:
            self.call_off()
            raise
        finally:
            self._workers.end()
        late = f"after {self._terms.timeout:g} s"
        return self._give_up(f"Not started: the batch ended {late}", f"Timed out {late}", status=504)

    def call_off(self, why: str = "the client went away") -> None:
        """Give up: nobody waits for the answers any more, or nobody can."""
        for item in self._items:
            item.cancelled = item.answer is None
        self._give_up(f"Not started: {why}", f"Cancelled: {why}", status=503)

    def _start(self) -> None:
        for item in self._items:
            if item.answer:
                self._announce(item)
            else:
                self._advance(item)
        if not self._left:
            self._all_answered.set()

    async def _wait(self) -> None:
        """Wait until all items are answered or time is over."""
        if not await self._answered_within(min(LONG, self._terms.timeout)):
            # In the thread that waits for this batch.
            await sync_to_async(give_connections_back)()
            await self._answered_within(self._terms.timeout)

    async def _answered_within(self, seconds: float) -> bool:
        """Tell whether all items are answered so many seconds after the batch began."""
        try:
            async with asyncio.timeout(self._terms.began + seconds - time.monotonic()):
                await self._all_answered.wait()
        except TimeoutError:
            return False
        return True

    def _give_up(self, not_started: str, not_finished: str, *, status: int) -> bool:
        """Answer what isn't answered. Returns whether there was nothing to give up."""
        left = [item for item in self._items if not item.answer]
        for item in left:
            item.settle(ItemResponse(status, error=not_started if item.call_off() else not_finished))
            self._announce(item)
        return not left

    # An item, from one that waits for others to one that others wait for.

    def _advance(self, item: Item) -> None:
        """Have an item carried out if those that it depends on are answered."""
        needed = [self._by_id[name] for name in item.depends_on]
        if item.answer or not all(other.answer for other in needed):
            return
        try:
            self._workers.put(item, self._sent(item, needed))
        except CallerError as error:
            self._settle(item, ItemResponse(error.status, error=error.message, details=error.details))
        except Exception:  # the other items are not to suffer from a mistake of ours
            logger.exception("item=%s state=crashed", item.id)
            self._settle(item, response.CRASHED)

    def _sent(self, item: Item, needed: list[Item]) -> PreparedRequest:
        """Return the request of an item. Raises `CallerError` where it can't be carried out."""
        for other in needed:
            if not other.answer or not other.answer.succeeded:
                raise FailedDependency(f"Failed dependency: {other.id}")
        call = item.call
        assert call  # noqa: S101  # for the type checker: what has none is answered
        if item.refers:
            bodies = {other.id: other.answer.body for other in needed if other.answer}
            call = filled(call, bodies, self._terms.rules, self._terms.max_chars)
        # Also tells this item from its neighbours in the log.
        extra = {"x-request-id": f"{self._request_id}/{item.position}"} if self._request_id else {}
        return prepared(call, self._terms.rules, extra)

    def _settle(self, item: Item, answer: ItemResponse, finished: float | None = None) -> None:
        """Take an item's answer, unless it comes too late, and see who has waited for it."""
        if not item.settle(answer, finished):
            return
        self._announce(item)
        for other in self._dependents.get(item.id, ()):
            self._loop.call_soon(self._advance, other)
        self._left -= 1
        if not self._left:
            self._all_answered.set()

    def _announce(self, item: Item) -> None:
        """Put an answered item into the stream, if there is one."""
        if self._events:
            self._events.post({"type": "response", **item.represent()})

    # In a place.

    def _carry_out(self, item: Item, sent: PreparedRequest) -> ItemResponse:
        span = partial(tracing.span, "item", self._attributes(item), parent=self._traceparent)
        return dispatch.answered(sent, self._origin, self._reader(item), streamed=self._events is not None, span=span)

    def _attributes(self, item: Item) -> tracing.Attributes:
        return {"batch.id": self._batch_id, "batch.item.position": item.position}

    def _reader(self, item: Item) -> dispatch.ResponseReader:
        if self._events is None:
            return response.read
        events = self._events

        async def pass_on(event: Any) -> None:
            await events.relay({"type": "item", "id": item.id, "event": event})

        return partial(relay.read, relay=pass_on)
