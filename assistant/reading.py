"""Reading an answer's events from a cursor, for every transport."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.errors import Conflict
from assistant.models import Message
from assistant.runs import Run, registry
from wire.eventlog import Event, follow
from wire.sse import HEARTBEAT_SECONDS


async def make_ready(turn: Run | Message) -> None:
    """Begin the answer if nobody has. Raises `Conflict` where it can't be read: before a stream starts, not in it."""
    if isinstance(turn, Run):
        if not turn.has_begun:
            registry.begin(turn)
    elif turn.status == Message.Status.RUNNING:
        raise Conflict("The answer is being written by another process, which alone can stream it.")


async def events_after(turn: Run | Message, cursor: int = 0) -> AsyncGenerator[Event | None]:
    """Yield the numbered events after `cursor`, live or stored, until the last; None after 15 s without one.

    Whoever reads counts as a reader of the answer until the generator is closed.
    """
    if isinstance(turn, Run):
        with turn.reading():
            async with aclosing(follow(turn.log, cursor, patience=HEARTBEAT_SECONDS)) as events:
                async for event in events:
                    yield event
    else:
        for event in turn.events_after(cursor):
            yield event
