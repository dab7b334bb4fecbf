"""The end in Redis of an answer whose process is gone."""

from contextlib import suppress
from typing import Any

import redis
from redis.exceptions import ResponseError

from assistant.cluster.streams import EVENT, KEPT_SECONDS, LAST, SOCKET_SECONDS, events_key, payloads
from assistant.conf import get_settings
from assistant.events import Start, encode
from assistant.models import Message
from assistant.models.conversations import INTERRUPTED

# How often it is tried to end an answer that its process goes on to write.
TRIES = 10


def seal(message: Message) -> list[str]:
    """End the answer in Redis and return its events there. Raises `RedisError`.

    From then on its process, which may only have been paused, can't write to it any more.
    """
    seconds = {"socket_timeout": SOCKET_SECONDS, "socket_connect_timeout": SOCKET_SECONDS}
    with redis.Redis.from_url(get_settings().REDIS_URL, decode_responses=True, protocol=2, **seconds) as client:
        key = events_key(message.pk)
        for _ in range(TRIES):
            entries: Any = client.xrange(key)
            if entries and LAST in entries[-1][1]:
                break
            start = Start(message.pk, message.conversation_id, message.agent_id)
            event = {LAST: encode(INTERRUPTED)} if entries else {EVENT: encode(start)}
            with suppress(ResponseError):  # it was only paused, and has written meanwhile
                client.xadd(key, event, id=f"{len(entries) + 1}-0")
                client.expire(key, KEPT_SECONDS)
    return payloads(entries)
