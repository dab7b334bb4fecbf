"""Whether the processes of the service share their answers (REDIS_URL), and their connection to each other."""

import logging
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from assistant.conf import get_settings
from assistant.models import Message
from assistant.models.pool import STORE_POOL
from wire.asgi.per_loop import PerLoop
from wire.extras import needs_extra
from wire.once import once

if TYPE_CHECKING:
    from assistant.cluster.feeds import SharedRun
    from assistant.cluster.redis import RedisBus

logger = logging.getLogger(__name__)

SCHEMES = ("redis://", "rediss://", "unix://")


def is_on() -> bool:
    return bool(get_settings().REDIS_URL)


def check_settings() -> None:
    """Raise `ImproperlyConfigured` where REDIS_URL can't be used. The URL may hold a password, and isn't repeated."""
    if is_on():
        buses(get_settings().REDIS_URL)


@once
def buses(url: str) -> "PerLoop[RedisBus]":
    with needs_extra("redis", "REDIS_URL"):
        from assistant.cluster.redis import RedisBus
    try:
        if not url.startswith(SCHEMES):
            raise ValueError
        RedisBus(url)
    except ValueError:
        raise ImproperlyConfigured("REDIS_URL has to be like redis://localhost:6379/0.") from None
    return PerLoop(lambda: RedisBus(url))


async def bus() -> "RedisBus":
    """Return the running loop's connection to the other processes."""
    return await buses(get_settings().REDIS_URL).get()


async def check() -> None:
    """Raise `Unreachable` unless Redis answers."""
    await (await bus()).check()


async def publish(run: "SharedRun") -> None:
    """Let other processes follow the answer; return once they have all of it."""
    await (await bus()).publish(run)


async def stop(message: Message) -> Message:
    """Have the process that writes the answer stop it; return the message as it is stored after that."""
    await check()
    await (await bus()).stop(message)
    return await refresh(message)


async def so_far(message: Message) -> Message:
    """Return the message with the text and the tool calls that another process has written so far."""
    if is_on():
        message.take_events(await (await bus()).events(message))
    return message


async def refresh(message: Message) -> Message:
    await STORE_POOL.run(message.refresh_from_db)
    return message


def sealed_events(message: Message) -> list[str]:
    """Return the events in Redis of an answer whose process is gone, and end it there."""
    if not is_on():
        return []
    buses(get_settings().REDIS_URL)
    from assistant.cluster.sealing import seal

    try:
        return seal(message)
    except Exception:  # an answer without its text is better than one that never ends
        logger.exception("message=%s state=text_lost", message.pk)
        return []


async def aclose() -> None:
    """Close the connection to Redis, once it has the last events."""
    if is_on():
        await buses(get_settings().REDIS_URL).aclose()
