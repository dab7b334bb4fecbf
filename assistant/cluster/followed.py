"""Answers of other processes that are read here, as Redis or at last their rows have them."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from assistant.cluster.mailbox import Mailbox
from assistant.cluster.streams import LAST, longest_answer, number_of
from assistant.event_log import EventLog
from assistant.events import Failed, encode
from assistant.models import Message
from assistant.models.pool import STORE_POOL

logger = logging.getLogger(__name__)

LOST = Failed("The answer can't be followed any longer. Ask for the message.", 503, retryable=True)


@dataclass(eq=False)
class Followed:
    """An answer of another process, with the number of its readers here."""

    owner: str
    until: float
    log: EventLog = field(default_factory=EventLog)
    readers: int = 0

    def take(self, entries: list[Any]) -> None:
        """Add the events that Redis has to the log."""
        for entry in entries:
            if self.log.closed or number_of(entry) != len(self.log.payloads) + 1:
                return
            [(name, payload)] = entry[1].items()
            (self.log.close if name == LAST else self.log.append)(payload)

    def end(self, rest: list[str]) -> None:
        """Give the readers the rest of the events."""
        if self.log.closed or not rest:
            return
        for payload in rest[:-1]:
            self.log.append(payload)
        self.log.close(rest[-1])


class FollowedAnswers:
    """The answers that one event loop follows. Their processes are told by mail that there are readers."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._followed: dict[str, Followed] = {}

    @asynccontextmanager
    async def following(self, message: Message) -> AsyncIterator[EventLog]:
        """Count as a reader of another process's answer, and have its events as they come."""
        followed = self._followed.get(message.pk)
        if followed is None:
            followed = self._followed[message.pk] = Followed(message.process, monotonic() + longest_answer())
            # The task that listens learns of the answer when it wakes.
            self._mailbox.send(self._mailbox.owner, "wake", message.pk)
            self._mailbox.send(followed.owner, "attend", message.pk)
        followed.readers += 1
        try:
            yield followed.log
        finally:
            followed.readers -= 1
            if not followed.readers:
                del self._followed[message.pk]
                self._mailbox.send(followed.owner, "leave", message.pk)

    def live(self) -> dict[str, Followed]:
        """Return the answers that have not ended, by their messages' ids."""
        return {pk: followed for pk, followed in self._followed.items() if not followed.log.closed}

    async def look_after(self) -> None:
        """Tell the other processes that their answers have readers here, and end those that Redis didn't end."""
        live = self.live()
        for pk, followed in live.items():
            self._mailbox.send(followed.owner, "attend", pk)
        if live:
            await end_from_rows(live)


async def end_from_rows(live: dict[str, Followed]) -> None:
    """Give readers the rest of the answers that have ended in the database, and end those that are lost."""
    try:
        ended = await STORE_POOL.run(lambda: list(Message.objects.filter(pk__in=live).ended()))
    except Exception:  # the database may be gone for a while
        logger.exception("followed=%s state=unknown", len(live))
        return
    for message in ended:
        followed = live[message.pk]
        followed.end([payload for _, payload in message.events_after(len(followed.log.payloads))])
    for followed in live.values():
        if monotonic() > followed.until:
            followed.end([encode(LOST)])
