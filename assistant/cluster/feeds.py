"""Answers of this process on their way to Redis, where other processes read them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from assistant.cluster.mailbox import Mail
from assistant.cluster.streams import EVENT, KEPT_SECONDS, LAST, TROUBLE, events_key, longest_answer, number_of
from assistant.event_log import EventLog
from assistant.models import Message


class SharedRun(Protocol):
    """A running answer that other processes may read and stop."""

    message: Message
    log: EventLog

    def stop(self) -> None: ...

    def interrupt(self) -> None: ...

    def attend(self, reader: str) -> None: ...

    def leave(self, reader: str) -> None: ...


@dataclass(eq=False)
class Feed:
    """An answer on its way to Redis. `cursor` is how much of it is there; None: that isn't known."""

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
        """Yield the number, field and payload of each event that isn't in Redis yet."""
        log = self.run.log
        for number, payload in enumerate(log.after(self.cursor or 0), start=(self.cursor or 0) + 1):
            yield number, LAST if log.ended_before(number) else EVENT, payload

    def queue(self, pipeline: Any) -> int:
        """Queue the commands that bring Redis up to date; return how many they are."""
        count = 0
        for number, name, payload in self.pending():
            # A stream that has vanished isn't begun anew in its middle.
            pipeline.xadd(self.key, {name: payload}, id=f"{number}-0", nomkstream=number > 1)
            count += 1
        if not self.cursor or self.run.log.closed:
            pipeline.expire(self.key, KEPT_SECONDS if self.run.log.closed else int(longest_answer()))
            count += 1
        return count


class Feeds:
    """The feeds of one event loop. `wake` is called when there is something to write."""

    def __init__(self, client: Redis, wake: Callable[[], None]) -> None:
        self._client = client
        self._wake = wake
        self._feeds: dict[str, Feed] = {}
        self._dirty: set[Feed] = set()

    async def publish(self, run: SharedRun) -> None:
        """Have the answer's events written as they come; return once the last one is there, or isn't needed there."""
        feed = Feed(run, asyncio.get_running_loop().create_future())
        self._feeds[run.message.pk] = feed
        with run.log.watched(lambda: self._mark(feed)):
            self._mark(feed)
            await feed.done

    def obey(self, mail: Mail) -> None:
        """Carry out another process's order on an answer of this one."""
        feed = self._feeds.get(mail.message_id)
        if feed is None:
            return
        match mail.order:
            case "stop":
                feed.run.stop()
            case "attend":
                feed.run.attend(mail.sender)
            case "leave":
                feed.run.leave(mail.sender)

    async def write(self) -> None:
        """Write the pending events of all answers, in one round trip."""
        dirty, self._dirty = self._dirty, set()
        try:
            await self._locate([feed for feed in dirty if feed.cursor is None])
            await self._send([feed for feed in dirty if not feed.done.done()])
        except TROUBLE:
            for feed in dirty:
                self._try_again(feed)
            raise

    async def wait(self, seconds: float) -> None:
        """Wait until Redis has the last event of each answer, at most so long."""
        if waiting := [feed.done for feed in self._feeds.values()]:
            await asyncio.wait(waiting, timeout=seconds)

    def drop_all(self) -> None:
        for feed in list(self._feeds.values()):
            self._drop(feed)

    def _mark(self, feed: Feed) -> None:
        self._dirty.add(feed)
        self._wake()

    def _drop(self, feed: Feed) -> None:
        self._feeds.pop(feed.run.message.pk, None)
        self._dirty.discard(feed)
        if not feed.done.done():
            feed.done.set_result(None)

    async def _locate(self, feeds: list[Feed]) -> None:
        """Find out how much of each Redis has; an answer that another process has sealed ends here."""
        pipeline = self._client.pipeline(transaction=False)
        for feed in feeds:
            pipeline.xrevrange(feed.key, count=1)
        for feed, newest in zip(feeds, await pipeline.execute(), strict=True):
            feed.cursor = number_of(newest[0]) if newest else 0
            if newest and LAST in newest[0][1]:
                if not feed.is_written:
                    feed.run.interrupt()
                self._drop(feed)

    async def _send(self, feeds: list[Feed]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        counts = [feed.queue(pipeline) for feed in feeds]
        results = iter(await pipeline.execute(raise_on_error=False))
        failures = [self._note(feed, list(islice(results, count))) for feed, count in zip(feeds, counts, strict=True)]
        if any(failures):
            raise next(filter(None, failures))

    def _note(self, feed: Feed, results: list[Any]) -> RedisError | None:
        """Note Redis's replies to an answer's commands; return the first error."""
        failure = next((result for result in results if isinstance(result, RedisError)), None)
        if failure or None in results:
            self._try_again(feed)
        else:
            feed.cursor = (feed.cursor or 0) + sum(isinstance(result, str) for result in results)
            if feed.is_written:
                self._drop(feed)
        return failure

    def _try_again(self, feed: Feed) -> None:
        """Go on from where Redis is by then; an answer that has ended is replayed from its row."""
        feed.cursor = None
        if feed.run.log.closed:
            self._drop(feed)
        else:
            self._mark(feed)
