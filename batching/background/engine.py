"""What works on background batches in a process: claims items, carries them out, writes how they ended.

It has a thread with an event loop of its own, one thread for the rows, and a thread for each item that runs, apart from
those of batches that somebody waits for. Any number of processes may run one on the same rows; nothing is lost with any
of them. A server has one, `run_batches` is one, and a task of Celery's workers is one for a while.
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

from django.db import Error
from django.utils import timezone

from batching.background import attempts, queue, reaper, webhooks
from batching.background.fairness import RoundRobin
from batching.background.queue import Claimed, Ending
from batching.conf import BatchingSettings
from batching.items import response
from batching.items.item import ItemResponse
from batching.models import Batch
from wire.asgi.threads import Pool

logger = logging.getLogger(__name__)

# Seconds after which a process looks for what others have accepted.
IDLE = 1.0
# Seconds after a failure of the database.
PAUSE = 1.0
# Seconds of work that are claimed at once: items that do little cost less so, and those that do much wait nowhere.
AHEAD = 0.25
MOST_AHEAD = 32
# Seconds that items get to end when their process does.
GRACE = 3.0

# Work that was told to end and hasn't yet; held here, so that it isn't lost before it has.
ending: set[asyncio.Future[ItemResponse]] = set()


class Engine:
    """Works until it is told to stop. It belongs to the event loop in which `run` is awaited.

    Its items use the processor for at most `share` of the time, so that a server has the rest for its callers.
    """

    def __init__(self, settings: BatchingSettings, *, share: float = 1.0) -> None:
        self._settings = settings
        self._rest_factor = settings.BATCH_BACKGROUND_CONCURRENCY / share - 1 if share < 1 else 0.0
        self._places = asyncio.Semaphore(settings.BATCH_BACKGROUND_CONCURRENCY)
        self._threads = Pool(settings.BATCH_BACKGROUND_CONCURRENCY, "batch-background")
        self._rows = Pool(1, "batch-rows")
        self._turns = RoundRobin()
        self._held: dict[Claimed, asyncio.Task[None]] = {}
        self._endings: list[Ending] = []
        self._woken = asyncio.Event()
        self._pace = 1.0
        self._last_claim = math.inf
        self._stopping = False
        self._loop = asyncio.get_running_loop()

    async def run(self, *, drain: bool = False) -> None:
        """Work until `stop`, or where it is to `drain` until no background batch is open."""
        await self._work(self._is_drained if drain else never)

    async def run_for(self, seconds: float) -> bool:
        """Claim for so many seconds or until there is nothing to do; returns whether somebody is to go on.

        It returns when what it claimed has ended.
        """
        self._last_claim = time.monotonic() + seconds
        await self._work(self._is_idle)
        return self._stopping or time.monotonic() >= self._last_claim

    async def _work(self, is_over: Callable[[], Awaitable[bool]]) -> None:
        await self._tend()
        keeper = self._loop.create_task(self._keep())
        messenger = webhooks.Messenger(self._in_rows)
        messages = self._loop.create_task(messenger.work())
        try:
            while not self._stopping:
                if not await self._turn():
                    if await is_over():
                        await messenger.deliver()
                        break
                    await self._rest()
            await self._end()
        finally:
            keeper.cancel()
            messages.cancel()
            await asyncio.gather(keeper, messages, return_exceptions=True)
            await self._in_rows(self._threads.disconnect)  # after what is still at the rows
            self._rows.disconnect()
            for pool in (self._threads, self._rows):
                pool.shutdown(wait=False)

    def stop(self) -> None:
        """Claim nothing more, let items end for a moment, give back what is left. May be called from any thread."""
        with suppress(RuntimeError):  # the loop has ended already
            self._loop.call_soon_threadsafe(self._stop)

    def wake(self) -> None:
        """Look at once for what there is to do. May be called from any thread."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._woken.set)

    def _stop(self) -> None:
        self._stopping = True
        self._woken.set()

    async def _turn(self) -> bool:
        """Write what has ended and claim what there is room for; returns whether anything was claimed."""
        self._woken.clear()
        await self._write()
        return await self._claim()

    async def _rest(self) -> None:
        """Wait until there is something to do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(IDLE):
                await self._woken.wait()

    async def _is_idle(self) -> bool:
        return not self._held

    async def _is_drained(self) -> bool:
        opened = Batch.objects.open_in_background().exclude(status=Batch.Status.RECEIVING)
        return not self._held and not await self._in_rows(opened.exists, True)

    # Claiming and carrying out.

    async def _claim(self) -> bool:
        """Claim as many as are soon done; returns whether there were any."""
        ahead = self._settings.BATCH_BACKGROUND_CONCURRENCY * max(1, min(MOST_AHEAD, int(AHEAD / self._pace)))
        room = ahead - len(self._held)
        if self._stopping or room * 2 < ahead or time.monotonic() >= self._last_claim:
            return False
        nothing: list[Claimed] = []
        claimed = await self._in_rows(partial(queue.claim, room, self._settings.BATCH_LEASE, self._turns), nothing)
        for one in claimed:
            self._held[one] = self._loop.create_task(self._see_through(one), context=Context())
        return bool(claimed)

    async def _see_through(self, claimed: Claimed) -> None:
        await self._places.acquire()
        at, started = timezone.now(), time.monotonic()
        work = asyncio.ensure_future(self._threads.sync_to_async(self._in_place)(claimed))
        try:
            done, _ = await asyncio.wait({work}, timeout=self._settings.BATCH_ITEM_TIMEOUT)
        finally:
            # Ends what runs in an event loop. What runs in a thread keeps its place until it ends by itself.
            ending.add(work)
            work.add_done_callback(ending.discard)
            work.cancel()
        timed_out = ItemResponse(504, error=f"Timed out after {self._settings.BATCH_ITEM_TIMEOUT:g} s")
        answer = work.result() if done else timed_out
        finished = time.monotonic()
        self._pace = max(0.001, 0.9 * self._pace + 0.1 * (finished - started))
        self._endings.append(Ending(claimed, answer, started, finished, at, timed_out=not done))
        self._woken.set()

    def _in_place(self, claimed: Claimed) -> ItemResponse:
        before = time.thread_time()
        try:
            return attempts.carried_out(claimed, self._settings)
        except Exception:  # a mistake of ours: the item is answered all the same
            logger.exception("batch=%s position=%s state=crashed", claimed.batch.pk, claimed.position)
            return response.CRASHED
        finally:
            with suppress(RuntimeError):  # the loop has ended
                rest = (time.thread_time() - before) * self._rest_factor
                self._loop.call_soon_threadsafe(self._loop.call_later, rest, self._places.release)

    # Writing.

    async def _write(self) -> None:
        """Write what has ended by now; what can't be written now is held on to."""
        endings, self._endings = self._endings, []
        if endings and not await self._in_rows(partial(attempts.conclude, endings, self._settings), False):
            self._endings[:0] = endings
            await asyncio.sleep(PAUSE)
            return
        for one in endings:
            del self._held[one.claimed]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(min(self._settings.BATCH_LEASE / 3, 5.0))
            await self._tend()
            self._woken.set()

    async def _tend(self) -> None:
        """Prolong the leases, and look after what others have left."""
        settings = self._settings
        await self._in_rows(partial(queue.renew, list(self._held), settings.BATCH_LEASE))
        sweep = partial(reaper.sweep, attempts=settings.BATCH_MAX_ATTEMPTS, room=settings.BATCH_STORED_BODY_BYTES)
        await self._in_rows(sweep)

    async def _in_rows[T](self, work: Callable[[], T], otherwise: T | None = None) -> T:
        """Do something in the thread of the rows; where the database fails, log it and return `otherwise`."""
        try:
            return await self._loop.run_in_executor(self._rows, work)
        except Error:
            logger.exception("engine=%s state=database_failed", os.getpid())
            return otherwise  # type: ignore[return-value]  # callers that look at it give one

    async def _end(self) -> None:
        """Let items end for a moment, then give back what hasn't."""
        running = [task for task in self._held.values() if not task.done()]
        if running:
            await asyncio.wait(running, timeout=GRACE)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._write()
        for claimed in self._held:
            await self._in_rows(partial(queue.release, claimed, timezone.now(), tried=False))


async def never() -> bool:
    return False
