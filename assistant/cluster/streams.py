"""The Redis Streams that the processes of the service share, and how their entries read.

Each running answer has one with its events, whose ids are their numbers (`7-0`), so that one cursor serves replay and
live. Each process has one as its mailbox.
"""

from typing import Any

from redis.exceptions import RedisError

from assistant.conf import get_settings
from assistant.models.conversations import LEASE

TROUBLE = (RedisError, OSError)
SOCKET_SECONDS = 5.0
# How long a stream is kept after its last entry; an answer is replayed from its row from then on.
KEPT_SECONDS = 60
# The field of an entry that holds an event, and of the last one: no event follows it.
EVENT, LAST = "event", "last"


def events_key(message_id: str) -> str:
    return f"assistant:events:{message_id}"


def mailbox_key(process: str) -> str:
    return f"assistant:process:{process}"


def longest_answer() -> float:
    """Return how many seconds an answer may run, and be ended by another process after that."""
    return get_settings().STREAM_TIMEOUT + 2 * LEASE.total_seconds()


def number_of(entry: tuple[str, Any]) -> int:
    return int(entry[0].partition("-")[0])


def payloads(entries: list[Any]) -> list[str]:
    return [payload for _, fields in entries for payload in fields.values()]
