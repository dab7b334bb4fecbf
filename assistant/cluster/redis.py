"""What the processes of the service tell each other through Redis.

Each running answer has a Redis Stream with its events, whose ids are their numbers (`7-0`), so that one cursor serves
replay and live. Each process has another with what it is asked: to stop an answer, and who elsewhere reads it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic
from typing import Any, Protocol, Self

import redis
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from assistant.cluster.processes import this_process
from assistant.conf import get_settings
from assistant.errors import Unreachable
from assistant.event_log import EventLog
from assistant.events import Failed, Start, encode
from assistant.models import Message
from assistant.models.conversations import INTERRUPTED, LEASE
from assistant.models.pool import STORE_POOL

logger = logging.getLogger(__name__)

TROUBLE = (RedisError, OSError)
# One connection writes, one waits for what is new, and the others serve those who ask whether Redis answers.
CONNECTIONS = 4
SOCKET_SECONDS = 5.0
BLOCK_SECONDS = 2
RETRY_SECONDS = 1.0
# What answers write within this time leaves together.
GATHER_SECONDS = 0.005
# How long a stream is kept after its last event; the stored message replays from then on.
KEPT_SECONDS = 60
# How often a process says that it reads an answer.
ATTEND_SECONDS = 5.0
STOP_SECONDS = 5.0
# How many commands wait for Redis to come back.
MAILS = 1_000
# How often a dead process's answer is ended in Redis, should that process be alive after all.
TRIES = 10

LOST = Failed("The answer can't be followed any longer. Ask for the message.", 503, retryable=True)


def events_key(message_id: str) -> str:
    return f"assistant:events:{message_id}"


def mailbox_key(process: str) -> str:
    return f"assistant:process:{process}"


def longest() -> float:
    """Return how many seconds an answer may run, and be ended by others after that."""
    return get_settings().STREAM_TIMEOUT + 2 * LEASE.total_seconds()


class SharedRun(Protocol):
    """A running answer, as the exchange needs it."""

    message: Message
    log: EventLog

    def stop(self) -> None: ...

    def interrupt(self) -> None: ...

    def attend(self, reader: str) -> None: ...

    def leave(self, reader: str) -> None: ...


@dataclass(eq=False)
class Feed:
    """An answer of this process on its way to Redis. `cursor` is how much of it is there; None: that isn't known."""

    run: SharedRun
    done: asyncio.Future[None]
    cursor: int | None = 0

    @property
    def key(self) -> str:
        return events_key(self.run.message.pk)

    @property
    def is_written(self) -> bool:
        return self.cursor is not None and self.run.log.ended_before(self.cursor)

    def pending(self) -> Iterator[tuple[int, str, str]]:
        """Yield the number, field and payload of what isn't in Redis yet."""
        log = self.run.log
        for number, payload in enumerate(log.after(self.cursor or 0), start=(self.cursor or 0) + 1):
            yield number, "last" if log.ended_before(number) else "event", payload


@dataclass(eq=False)
class Followed:
    """An answer of another process with those who read it here."""

    owner: str
    until: float
    log: EventLog = field(default_factory=EventLog)
    readers: int = 0


class RedisBus:
    """One event loop's end of it: whatever the number of answers and readers, one task writes and one listens.

    Nobody waits for Redis: while it doesn't answer, local readers hear their answers as ever, and it catches up.
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
        self._feeds: dict[str, Feed] = {}
        self._followed: dict[str, Followed] = {}
        self._dirty: set[Feed] = set()
        self._outbox: deque[tuple[str, dict[Any, Any]]] = deque(maxlen=MAILS)
        self._something = asyncio.Event()
        self._read_until = "0-0"
        self._failing: set[str] = set()

    async def __aenter__(self) -> Self:
        self._name = this_process()
        loop = asyncio.get_running_loop()
        # Contexts of their own: a request's holds a thread that ends with the request.
        work = (self._write(), self._listen(), self._mind())
        self._tasks = [loop.create_task(each, context=Context()) for each in work]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        waiting = [feed.done for feed in self._feeds.values()]
        if waiting and not self._tasks[0].done():
            await asyncio.wait(waiting, timeout=RETRY_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for feed in list(self._feeds.values()):
            self._drop(feed)
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
        """Write the answer's events as they come; return once the last one is there, or nobody waits for it."""
        feed = Feed(run, asyncio.get_running_loop().create_future())
        self._feeds[run.message.pk] = feed
        with run.log.watched(lambda: self._mark(feed)):
            self._mark(feed)
            await feed.done

    def _mark(self, feed: Feed) -> None:
        self._dirty.add(feed)
        self._something.set()

    def _drop(self, feed: Feed) -> None:
        self._feeds.pop(feed.run.message.pk, None)
        self._dirty.discard(feed)
        if not feed.done.done():
            feed.done.set_result(None)

    async def _write(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            try:
                await self._write_once()
                self._works("writing")
                await asyncio.sleep(GATHER_SECONDS)
            except TROUBLE as error:
                self._fails("writing", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._something.set()

    async def _write_once(self) -> None:
        """Write what there is to write of all answers, in one round trip."""
        await self._post()
        dirty, self._dirty = self._dirty, set()
        try:
            await self._locate([feed for feed in dirty if feed.cursor is None])
            await self._send([feed for feed in dirty if not feed.done.done()])
        except TROUBLE:
            for feed in dirty:
                self._try_again(feed)
            raise

    async def _locate(self, feeds: list[Feed]) -> None:
        """Find out how much of each Redis has; an answer that another process has sealed ends here."""
        pipeline = self._client.pipeline(transaction=False)
        for feed in feeds:
            pipeline.xrevrange(feed.key, count=1)
        for feed, newest in zip(feeds, await pipeline.execute(), strict=True):
            feed.cursor = number_of(newest[0]) if newest else 0
            if newest and "last" in newest[0][1]:
                if not feed.is_written:
                    feed.run.interrupt()
                self._drop(feed)

    async def _send(self, feeds: list[Feed]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        counts = [queue(pipeline, feed) for feed in feeds]
        results = iter(await pipeline.execute(raise_on_error=False))
        failures = [self._take(feed, list(islice(results, count))) for feed, count in zip(feeds, counts, strict=True)]
        if any(failures):
            raise next(filter(None, failures))

    def _take(self, feed: Feed, results: list[Any]) -> RedisError | None:
        """Note what Redis has said to the commands for an answer; return what was wrong."""
        failure = next((result for result in results if isinstance(result, RedisError)), None)
        if failure or None in results:
            self._try_again(feed)
        else:
            feed.cursor = (feed.cursor or 0) + sum(isinstance(result, str) for result in results)
            if feed.is_written:
                self._drop(feed)
        return failure

    def _try_again(self, feed: Feed) -> None:
        """Go on from wherever Redis is by then; an answer that has ended is replayed from its row."""
        feed.cursor = None
        if feed.run.log.closed:
            self._drop(feed)
        else:
            self._mark(feed)

    # Answers of other processes.

    @asynccontextmanager
    async def following(self, message: Message) -> AsyncIterator[EventLog]:
        """Count as a reader of another process's answer, and have its events as they come."""
        followed = self._followed.get(message.pk)
        if followed is None:
            followed = self._followed[message.pk] = Followed(message.process, monotonic() + longest())
            self._mail(self._name, "wake", message.pk)
            self._mail(followed.owner, "attend", message.pk)
        followed.readers += 1
        try:
            yield followed.log
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._followed[message.pk]
                self._mail(followed.owner, "leave", message.pk)

    async def events(self, message: Message) -> list[str]:
        """Return what there is of another process's answer; nothing where Redis doesn't answer."""
        try:
            entries: Any = await self._client.xrange(events_key(message.pk))
            return payloads(entries)
        except TROUBLE as error:
            self._fails("asking", error)
            return []

    async def stop(self, message: Message) -> None:
        """Have another process stop its answer; return when it has, or after a few seconds."""
        async with self.following(message) as log:
            self._mail(message.process, "stop", message.pk)
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    while not log.closed:
                        await log.wait()

    def _live(self) -> dict[str, Followed]:
        return {pk: followed for pk, followed in self._followed.items() if not followed.log.closed}

    async def _listen(self) -> None:
        while True:
            keys = {events_key(pk): (pk, followed) for pk, followed in self._live().items()}
            streams: dict[Any, Any] = {mailbox_key(self._name): self._read_until}
            streams |= {key: f"{len(followed.log.payloads)}-0" for key, (_, followed) in keys.items()}
            try:
                answer: Any = await self._client.xread(streams, block=BLOCK_SECONDS * 1000)
            except TROUBLE as error:
                self._fails("reading", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._works("reading")
            for key, entries in answer or ():
                if key in keys:
                    take(keys[key][1].log, entries)
                else:
                    self._read_mail(entries)

    async def _mind(self) -> None:
        """Tell the others who reads their answers here, and end what has ended without Redis saying so."""
        while True:
            await asyncio.sleep(ATTEND_SECONDS)
            live = self._live()
            for pk, followed in live.items():
                self._mail(followed.owner, "attend", pk)
            if live:
                await end_from_rows(live)

    # Mail.

    def _mail(self, process: str, order: str, message_id: str) -> None:
        self._outbox.append((process, {"order": order, "message": message_id, "from": self._name}))
        self._something.set()

    async def _post(self) -> None:
        mails, self._outbox = self._outbox, deque(maxlen=MAILS)
        pipeline = self._client.pipeline(transaction=False)
        for process, mail in mails:
            pipeline.xadd(mailbox_key(process), mail, maxlen=MAILS)
        for process in {process for process, _ in mails}:
            pipeline.expire(mailbox_key(process), KEPT_SECONDS)
        try:
            await pipeline.execute()
        except TROUBLE:
            self._outbox.extendleft(reversed(mails))
            raise

    def _read_mail(self, entries: list[Any]) -> None:
        for self._read_until, mail in entries:
            if feed := self._feeds.get(mail["message"]):
                obey(feed.run, mail["order"], mail["from"])

    # What fails is said once, not at each try.

    def _fails(self, what: str, error: Exception) -> None:
        if what not in self._failing:
            logger.warning("redis=%s state=failing error=%s", what, type(error).__name__, exc_info=error)
        self._failing.add(what)

    def _works(self, what: str) -> None:
        if what in self._failing:
            logger.info("redis=%s state=working", what)
        self._failing.discard(what)


def queue(pipeline: Any, feed: Feed) -> int:
    """Queue the commands that bring an answer up to date; return how many they are."""
    count = 0
    for number, name, payload in feed.pending():
        # A stream that has vanished isn't begun anew in its middle.
        pipeline.xadd(feed.key, {name: payload}, id=f"{number}-0", nomkstream=number > 1)
        count += 1
    if not feed.cursor or feed.run.log.closed:
        pipeline.expire(feed.key, KEPT_SECONDS if feed.run.log.closed else int(longest()))
        count += 1
    return count


def number_of(entry: tuple[str, Any]) -> int:
    return int(entry[0].partition("-")[0])


def payloads(entries: list[Any]) -> list[str]:
    return [payload for _, fields in entries for payload in fields.values()]


def take(log: EventLog, entries: list[Any]) -> None:
    """Add the events that Redis has to a log that follows them."""
    for entry in entries:
        if log.closed or number_of(entry) != len(log.payloads) + 1:
            return
        [(name, payload)] = entry[1].items()
        (log.close if name == "last" else log.append)(payload)


def obey(run: SharedRun, order: str, reader: str) -> None:
    match order:
        case "stop":
            run.stop()
        case "attend":
            run.attend(reader)
        case "leave":
            run.leave(reader)


async def end_from_rows(live: dict[str, Followed]) -> None:
    """Give readers the rest of what has ended in the database by now, and let go of those who wait too long."""
    try:
        ended = await STORE_POOL.run(lambda: list(Message.objects.filter(pk__in=live).ended()))
    except Exception:  # the database may be gone for a while
        logger.exception("followed=%s state=unknown", len(live))
        return
    for message in ended:
        end_log(
            live[message.pk].log, [payload for _, payload in message.events_after(len(live[message.pk].log.payloads))]
        )
    for followed in live.values():
        if monotonic() > followed.until:
            end_log(followed.log, [encode(LOST)])


def end_log(log: EventLog, rest: list[str]) -> None:
    if log.closed or not rest:
        return
    for payload in rest[:-1]:
        log.append(payload)
    log.close(rest[-1])


def seal(message: Message) -> list[str]:
    """Return what Redis has of an answer whose process is gone, having ended it there.

    From then on its process can't write to it any more, should it only have been paused. Raises `RedisError`.
    """
    seconds = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    with redis.Redis.from_url(get_settings().REDIS_URL, decode_responses=True, protocol=2, **seconds) as client:
        key = events_key(message.pk)
        for _ in range(TRIES):
            entries: Any = client.xrange(key)
            if entries and "last" in entries[-1][1]:
                break
            start = Start(message.pk, message.conversation_id, message.agent_id)
            event = {"last": encode(INTERRUPTED)} if entries else {"event": encode(start)}
            with suppress(ResponseError):  # it was only paused, and has written meanwhile
                client.xadd(key, event, id=f"{len(entries) + 1}-0")
                client.expire(key, KEPT_SECONDS)
    return payloads(entries)
