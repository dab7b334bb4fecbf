"""Mail between processes: each has a mailbox in Redis, with the others' orders about the answers that it writes."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

from redis.asyncio import Redis

from assistant.cluster.streams import KEPT_SECONDS, TROUBLE, mailbox_key

# How much mail waits for Redis to come back, and how much a mailbox holds.
MAILS = 1_000

# Stop an answer; count the sender as its reader, or no longer; wake the task that reads the mailbox.
Order = Literal["stop", "attend", "leave", "wake"]


class Mail(NamedTuple):
    order: Order
    message_id: str
    sender: str


class Mailbox:
    """One event loop's end of the mail. `wake` is called when there is mail to post."""

    def __init__(self, client: Redis, owner: str, wake: Callable[[], None]) -> None:
        self.owner = owner
        self.read_until = "0-0"
        self._client = client
        self._wake = wake
        self._outbox: deque[tuple[str, dict[Any, Any]]] = deque(maxlen=MAILS)

    @property
    def key(self) -> str:
        return mailbox_key(self.owner)

    def send(self, process: str, order: Order, message_id: str) -> None:
        """Leave mail for a process; `post` takes it to Redis."""
        self._outbox.append((process, {"order": order, "message": message_id, "from": self.owner}))
        self._wake()

    async def post(self) -> None:
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

    def read(self, entries: list[Any]) -> Iterator[Mail]:
        """Yield the mail that has come for this process."""
        for self.read_until, mail in entries:
            yield Mail(mail["order"], mail["message"], mail["from"])
