"""An answer in the one type that its readers know: written in this process, written in another one, or stored."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from copy import copy

from assistant.answers.run import Run, registry
from assistant.cluster import sharing
from assistant.errors import Conflict
from assistant.event_log import EVENTS_AT_ONCE, follow
from assistant.models import Message
from wire.api.sse import HEARTBEAT_SECONDS, NumberedEvent, Push


def answer_of(message: Message) -> "Answer":
    """Return the answer of a message that was read from the database, as it is by now."""
    if run := registry.get(message.id):
        return LocalAnswer(run)
    if not message.has_ended:
        message.refresh_from_db()  # it may have ended since it was read
    return StoredAnswer(message) if message.has_ended else RemoteAnswer(message)


class Answer:
    """The answer to one message."""

    __slots__ = ("message",)

    def __init__(self, message: Message) -> None:
        self.message = message

    async def prepare(self) -> None:
        """Begin the answer where it has not begun, and make sure that it can be read, before a stream starts.

        Raises `Conflict` for an answer that only another process can stream, and `Unreachable` where Redis, which would
        have it, doesn't answer.
        """

    def events_after(self, cursor: int = 0, push: Push | None = None) -> AsyncGenerator[NumberedEvent | None]:
        """Yield the numbered events after `cursor` until the last; None after 15 s without one.

        The answer has to be prepared. What `push` takes isn't yielded. The reader counts until the generator is closed.
        """
        raise NotImplementedError

    async def wait(self) -> Message:
        """Return the message once its answer is stored. Raises as `prepare`, which need not have been called."""
        return self.message

    async def stop(self) -> Message:
        """End the answer with its text so far, and return the message; it still runs where its process is unknown."""
        return self.message

    async def so_far(self) -> Message:
        """Return the message with the text and the tool calls so far."""
        return self.message

    def expect_no_reader(self) -> None:
        """Begin the grace period of an answer that has never been read: its reader is gone. From any thread."""

    def abandon(self) -> None:
        """End an answer that has not begun; it uses the database."""


class StoredAnswer(Answer):
    """An answer that has ended."""

    async def events_after(self, cursor: int = 0, push: Push | None = None) -> AsyncGenerator[NumberedEvent | None]:
        for event in self.message.events_after(cursor):
            yield event
            if event[0] % EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)


class LocalAnswer(Answer):
    """An answer that a run of this process writes."""

    __slots__ = ("run",)

    def __init__(self, run: Run) -> None:
        super().__init__(run.message)
        self.run = run

    async def prepare(self) -> None:
        if not self.run.has_begun:
            registry.begin(self.run)

    async def events_after(self, cursor: int = 0, push: Push | None = None) -> AsyncGenerator[NumberedEvent | None]:
        with self.run.reading():
            async with aclosing(follow(self.run.log, cursor, patience=HEARTBEAT_SECONDS, push=push)) as events:
                async for event in events:
                    yield event

    async def wait(self) -> Message:
        await self.prepare()
        with self.run.reading():
            return await self.run.wait()

    async def stop(self) -> Message:
        await self.prepare()
        self.run.stop()
        return await self.run.wait()

    async def so_far(self) -> Message:
        message, transcript = copy(self.message), self.run.transcript
        message.text, message.events = transcript.text, list(transcript.events)
        return message

    def expect_no_reader(self) -> None:
        self.run.expect_no_reader()

    def abandon(self) -> None:
        registry.abandon(self.run)


class RemoteAnswer(Answer):
    """An answer that another process writes; Redis has its events."""

    async def prepare(self) -> None:
        if not sharing.is_on():
            raise Conflict("The answer is being written by another process, and can be read here once it has ended.")
        await sharing.check()

    async def events_after(self, cursor: int = 0, push: Push | None = None) -> AsyncGenerator[NumberedEvent | None]:
        following = (await sharing.bus()).following(self.message)
        async with (
            following as log,
            aclosing(follow(log, cursor, patience=HEARTBEAT_SECONDS, push=push)) as events,
        ):
            async for event in events:
                yield event

    async def wait(self) -> Message:
        await self.prepare()
        async with aclosing(self.events_after()) as events:
            async for _ in events:
                pass
        return await sharing.refresh(self.message)

    async def stop(self) -> Message:
        return await sharing.stop(self.message) if sharing.is_on() else self.message

    async def so_far(self) -> Message:
        return await sharing.so_far(self.message)
