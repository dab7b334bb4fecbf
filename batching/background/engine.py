"""The engine that executes background batches in a process: claims items, executes them, writes their results.

It has a thread with an event loop, one thread for the rows, and a thread for each running item; batches whose callers
wait have threads of their own. Any number of processes may run an engine on the same rows, and nothing is lost when one
dies. A server runs one, so does `run_batches`, and a task of a Celery worker runs one for a while.
"""

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from functools import partial

from django.utils import timezone

from batching.background import attempts, queue, reaper, webhooks
from batching.background.fairness import RoundRobin
from batching.background.queue import Attempt, AttemptResult
from batching.conf import BatchingSettings
from batching.items import response
from batching.items.item import ItemResponse
from batching.models import Batch
from wire.asgi.threads import Pool

logger = logging.getLogger(__name__)

# Seconds after which an idle engine looks for batches that other processes have accepted.
IDLE = 1.0
# Seconds after a failure of the database.
PAUSE = 1.0
# Seconds of work that are claimed at once: it makes short items cheaper, and keeps long ones free for others.
AHEAD = 0.25
MOST_AHEAD = 32
# Seconds that running items get to end when the engine stops.
GRACE = 3.0

# Work that is cancelled and hasn't ended yet; the event loop itself holds it only weakly.
cancelled_tasks: set[asyncio.Future[ItemResponse]] = set()


class Engine:
    """Runs until `stop`, in the event loop in which it was made.

    Its items use the processor for at most `share` of the time, which leaves the rest of a server's to its callers.
    """

    def __init__(self, settings: BatchingSettings, *, share: float = 1.0) -> None:
        self._settings = settings
        self._rest_factor = settings.BATCH_BACKGROUND_CONCURRENCY / share - 1 if share < 1 else 0.0
        self._slots = asyncio.Semaphore(settings.BATCH_BACKGROUND_CONCURRENCY)
        self._threads = Pool(settings.BATCH_BACKGROUND_CONCURRENCY, "batch-background")
        self._rows = Pool(1, "batch-rows")
        self._callers = RoundRobin()
        self._attempts: dict[Attempt, asyncio.Task[None]] = {}
        self._results: list[AttemptResult] = []
        self._woken = asyncio.Event()
        self._item_seconds = 1.0
        self._last_claim = math.inf
        self._stopping = False
        self._loop = asyncio.get_running_loop()

    async def run(self, *, drain: bool = False) -> None:
        """Run until `stop`; with `drain`, until no background batch is open."""
        await self._run(self._is_drained if drain else never)

    async def run_for(self, seconds: float) -> bool:
        """Claim items for so many seconds or until none is left, and execute them; return whether more may wait."""
        self._last_claim = time.monotonic() + seconds
        await self._run(self._is_idle)
        return self._stopping or time.monotonic() >= self._last_claim

    async def _run(self, is_done: Callable[[], Awaitable[bool]]) -> None:
        await self._maintain()
        keeper = self._loop.create_task(self._keep_leases())
        sender = webhooks.WebhookSender(self._in_rows)
        sending = self._loop.create_task(sender.run())
        try:
            while not self._stopping:
                if not await self._turn():
                    if await is_done():
                        await sender.deliver()
                        break
                    await self._rest()
            await self._end()
        finally:
            keeper.cancel()
            sending.cancel()
            await asyncio.gather(keeper, sending, return_exceptions=True)
            await self._in_rows(self._threads.disconnect)  # after work that still uses the rows
            self._rows.disconnect()
            for pool in (self._threads, self._rows):
                pool.shutdown(wait=False)

    def stop(self) -> None:
        """Claim no more, give running items GRACE seconds, release the rest. May be called from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._stop)

    def wake(self) -> None:
        """Look for items at once. May be called from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    def _stop(self) -> None:
        self._stopping = True
        self._woken.set()

    async def _turn(self) -> bool:
        """Write results and claim items; return whether any was claimed."""
        self._woken.clear()
        await self._write()
        return await self._claim()

    async def _rest(self) -> None:
        """Wait until woken, at most IDLE seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE):
                await self._woken.wait()

    async def _is_idle(self) -> bool:
        return not self._attempts

    async def _is_drained(self) -> bool:
        opened = Batch.objects.open_in_background().exclude(status=Batch.Status.RECEIVING)
        return not self._attempts and not await self._in_rows(opened.exists, True)

    # Claiming and executing.

    async def _claim(self) -> bool:
        """Claim about AHEAD seconds of work; return whether there was any."""
        ahead = self._settings.BATCH_BACKGROUND_CONCURRENCY * max(1, min(MOST_AHEAD, int(AHEAD / self._item_seconds)))
        room = ahead - len(self._attempts)
        if self._stopping or room * 2 < ahead or time.monotonic() >= self._last_claim:
            return False
        nothing: list[Attempt] = []
        claimed = await self._in_rows(partial(queue.claim, room, self._settings.BATCH_LEASE, self._callers), nothing)
        for attempt in claimed:
            self._attempts[attempt] = self._loop.create_task(self._execute(attempt), context=Context())
        return bool(claimed)

    async def _execute(self, attempt: Attempt) -> None:
        await self._slots.acquire()
        started_at, started = timezone.now(), time.monotonic()
        work = asyncio.ensure_future(self._threads.sync_to_async(self._in_thread)(attempt))
        try:
            done, _ = await asyncio.wait({work}, timeout=self._settings.BATCH_ITEM_TIMEOUT)
        finally:
            # Ends a view in an event loop. One in a thread keeps its slot until it returns.
            cancelled_tasks.add(work)
            work.add_done_callback(cancelled_tasks.discard)
            work.cancel()
        timed_out = ItemResponse(504, error=f"Timed out after {self._settings.BATCH_ITEM_TIMEOUT:g} s")
        result = work.result() if done else timed_out
        finished = time.monotonic()
        self._item_seconds = max(0.001, 0.9 * self._item_seconds + 0.1 * (finished - started))
        self._results.append(AttemptResult(attempt, result, started, finished, started_at, timed_out=not done))
        self._woken.set()

    def _in_thread(self, attempt: Attempt) -> ItemResponse:
        before = time.thread_time()
        try:
            return attempts.execute(attempt, self._settings)
        except Exception:  # an error of this app: the item gets a response all the same
            logger.exception("batch=%s position=%s state=crashed", attempt.batch.pk, attempt.position)
            return response.CRASHED
        finally:
            with suppress(RuntimeError):  # the loop has ended
                rest = (time.thread_time() - before) * self._rest_factor
                self._loop.call_soon_threadsafe(self._loop.call_later, rest, self._slots.release)

    # Writing.

    async def _write(self) -> None:
        """Write the results so far; those that can't be written now stay for the next turn."""
        results, self._results = self._results, []
        if results and not await self._in_rows(partial(attempts.conclude, results, self._settings), False):
            self._results[:0] = results
            await asyncio.sleep(PAUSE)
            return
        for result in results:
            del self._attempts[result.attempt]

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(min(self._settings.BATCH_LEASE / 3, 5.0))
            await self._maintain()
            self._woken.set()

    async def _maintain(self) -> None:
        """Renew the leases, and run the reaper."""
        settings = self._settings
        await self._in_rows(partial(queue.renew, list(self._attempts), settings.BATCH_LEASE))
        sweep = partial(reaper.sweep, max_attempts=settings.BATCH_MAX_ATTEMPTS, room=settings.BATCH_STORED_BODY_BYTES)
        await self._in_rows(sweep)

    async def _in_rows[T](self, work: Callable[[], T], otherwise: T | None = None) -> T:
        """Run `work` in the thread of the rows; where it fails, log it and return `otherwise`."""
        try:
            return await self._loop.run_in_executor(self._rows, work)
        except Exception:  # the database's, or of rows that were deleted meanwhile: no exception ends the engine
            logger.exception("engine=%s state=rows_failed", os.getpid())
            return otherwise  # type: ignore[return-value]  # callers that use the result give one

    async def _end(self) -> None:
        """Give running items GRACE seconds, then release the rest."""
        running = [task for task in self._attempts.values() if not task.done()]
        if running:
            await asyncio.wait(running, timeout=GRACE)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._write()
        for attempt in self._attempts:
            await self._in_rows(partial(queue.release, attempt, timezone.now(), counts=False))


async def never() -> bool:
    return False
