"""Reading an answer's events from a cursor, for every transport: live here, live in another process, or stored."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.answers.run import Run, registry
from assistant.cluster import sharing
from assistant.errors import Conflict
from assistant.event_log import EVENTS_AT_ONCE, follow
from assistant.models import Message
from wire.api.sse import HEARTBEAT_SECONDS, NumberedEvent, Push


async def make_ready(turn: Run | Message) -> None:
    """Begin the answer if nobody has. Raises what keeps it from being read: before a stream starts, not in it.

    Raises `Conflict` for an answer that another process writes and alone can stream, and `Unreachable` where Redis,
    which would have it, doesn't answer.
    """
    if isinstance(turn, Run):
        if not turn.has_begun:
            registry.begin(turn)
    elif not turn.has_ended:
        if not sharing.is_on():
            raise Conflict("The answer is being written by another process, and can be read here once it has ended.")
        await sharing.check()


def events_after(
    turn: Run | Message, cursor: int = 0, push: Push | None = None
) -> AsyncGenerator[NumberedEvent | None]:
    """Yield the numbered events after `cursor`, live or stored, until the last; None after 15 s without one.

    Those of an answer that is written here aren't yielded where `push` takes them. Whoever reads counts as a reader of
    the answer until the generator is closed.
    """
    if isinstance(turn, Run):
        return live(turn, cursor, push)
    return stored(turn, cursor) if turn.has_ended else live_elsewhere(turn, cursor)


async def live(run: Run, cursor: int, push: Push | None) -> AsyncGenerator[NumberedEvent | None]:
    with run.reading():
        async with aclosing(follow(run.log, cursor, patience=HEARTBEAT_SECONDS, push=push)) as events:
            async for each in events:
                yield each


async def live_elsewhere(message: Message, cursor: int) -> AsyncGenerator[NumberedEvent | None]:
    following = (await sharing.exchange()).following(message)
    async with following as log, aclosing(follow(log, cursor, patience=HEARTBEAT_SECONDS)) as events:
        async for each in events:
            yield each


async def stored(message: Message, cursor: int) -> AsyncGenerator[NumberedEvent | None]:
    for event in message.events_after(cursor):
        yield event
        if event[0] % EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)


async def whole(turn: Run | Message) -> Message:
    """Return the message once its answer has ended, having begun it if nobody has. Raises as `make_ready`."""
    await make_ready(turn)
    if isinstance(turn, Message) and turn.has_ended:
        return turn
    if isinstance(turn, Run):
        with turn.reading():
            return await turn.wait()
    async with aclosing(events_after(turn)) as events:
        async for _ in events:
            pass
    return await sharing.refreshed(turn)
