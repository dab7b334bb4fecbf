"""The connection to Redis, through which the processes of the service read and stop each other's answers."""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager, suppress
from contextvars import Context
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from assistant.cluster.feeds import Feeds, SharedRun
from assistant.cluster.followed import FollowedAnswers
from assistant.cluster.mailbox import Mailbox
from assistant.cluster.processes import this_process
from assistant.cluster.streams import SOCKET_SECONDS, TROUBLE, events_key, payloads
from assistant.errors import Unreachable
from assistant.event_log import EventLog
from assistant.models import Message

logger = logging.getLogger(__name__)

# One connection writes, one waits for new entries, and the others are for single calls.
CONNECTIONS = 4
BLOCK_SECONDS = 2
RETRY_SECONDS = 1.0
# Events that answers write within this time leave together.
GATHER_SECONDS = 0.005
# How often a process says that it reads an answer.
ATTEND_SECONDS = 5.0
STOP_SECONDS = 5.0


class RedisBus:
    """One event loop's end of the connection: one task writes and one listens, for all answers and readers.

    Nothing waits for Redis: while it doesn't answer, local readers get their answers as ever, and it catches up.
    """

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=SOCKET_SECONDS,
            decode_responses=True,
            protocol=2,
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._client: Redis = Redis(connection_pool=pool)
        self._has_work = asyncio.Event()
        self._failing: set[str] = set()

    async def __aenter__(self) -> Self:
        self._mailbox = Mailbox(self._client, this_process(), self._has_work.set)
        self._feeds = Feeds(self._client, self._has_work.set)
        self.followed = FollowedAnswers(self._mailbox)
        loop = asyncio.get_running_loop()
        # Contexts of their own: a request's holds a thread that ends with the request.
        work = (self._write(), self._listen(), self._look_after())
        self._tasks = [loop.create_task(each, context=Context()) for each in work]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if not self._tasks[0].done():
            await self._feeds.wait(RETRY_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._feeds.drop_all()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def check(self) -> None:
        """Raise `Unreachable` unless Redis answers."""
        try:
            await self._client.ping()
        except TROUBLE as error:
            raise Unreachable from error

    # Answers of this process.

    async def publish(self, run: SharedRun) -> None:
        """Write the answer's events as they come; return once the last one is there, or isn't needed there."""
        await self._feeds.publish(run)

    # Answers of other processes.

    def following(self, message: Message) -> AbstractAsyncContextManager[EventLog]:
        """Count as a reader of another process's answer, and have its events as they come."""
        return self.followed.following(message)

    async def events(self, message: Message) -> list[str]:
        """Return the events so far of another process's answer; none where Redis doesn't answer."""
        try:
            entries: Any = await self._client.xrange(events_key(message.pk))
            return payloads(entries)
        except TROUBLE as error:
            self._note_failure("asking", error)
            return []

    async def stop(self, message: Message) -> None:
        """Have another process stop its answer; return when it has, or after a few seconds."""
        async with self.following(message) as log:
            self._mailbox.send(message.process, "stop", message.pk)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    while not log.closed:
                        await log.wait()

    # The tasks.

    async def _write(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work.clear()
            try:
                await self._mailbox.post()
                await self._feeds.write()
                self._note_success("writing")
                await asyncio.sleep(GATHER_SECONDS)
            except TROUBLE as error:
                self._note_failure("writing", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._has_work.set()

    async def _listen(self) -> None:
        while True:
            followed = {events_key(pk): each for pk, each in self.followed.live().items()}
            streams: dict[Any, Any] = {self._mailbox.key: self._mailbox.read_until}
            streams |= {key: f"{len(each.log.payloads)}-0" for key, each in followed.items()}
            try:
                reply: Any = await self._client.xread(streams, block=BLOCK_SECONDS * 1000)
            except TROUBLE as error:
                self._note_failure("reading", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._note_success("reading")
            for key, entries in reply or ():
                if key in followed:
                    followed[key].take(entries)
                else:
                    for mail in self._mailbox.read(entries):
                        self._feeds.obey(mail)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(ATTEND_SECONDS)
            await self.followed.look_after()

    # A failure is logged once, not at each try.

    def _note_failure(self, task: str, error: Exception) -> None:
        if task not in self._failing:
            logger.warning("redis=%s state=failing error=%s", task, type(error).__name__, exc_info=error)
        self._failing.add(task)

    def _note_success(self, task: str) -> None:
        if task in self._failing:
            logger.info("redis=%s state=working", task)
        self._failing.discard(task)
