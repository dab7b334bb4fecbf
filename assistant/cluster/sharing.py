"""Whether the processes of the service share their answers (REDIS_URL), and the way to their exchange."""

import logging
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured

from assistant.conf import get_settings
from assistant.models import Message
from assistant.models.pool import STORING
from wire.asgi.per_loop import PerLoop
from wire.extras import needs_extra
from wire.once import once

if TYPE_CHECKING:
    from assistant.cluster.redis import RedisBus, SharedRun

logger = logging.getLogger(__name__)

SCHEMES = ("redis://", "rediss://", "unix://")


def is_on() -> bool:
    return bool(get_settings().REDIS_URL)


def check_settings() -> None:
    """Raise `ImproperlyConfigured` where REDIS_URL can't be used. The URL may hold a password, and isn't repeated."""
    if is_on():
        exchanges(get_settings().REDIS_URL)


@once
def exchanges(url: str) -> "PerLoop[RedisBus]":
    with needs_extra("redis", "REDIS_URL"):
        from assistant.cluster.redis import RedisBus
    try:
        if not url.startswith(SCHEMES):
            raise ValueError
        RedisBus(url)
    except ValueError:
        raise ImproperlyConfigured("REDIS_URL has to be like redis://localhost:6379/0.") from None
    return PerLoop(lambda: RedisBus(url))


async def exchange() -> "RedisBus":
    """Return the running loop's end of the exchange."""
    return await exchanges(get_settings().REDIS_URL).get()


async def check() -> None:
    """Raise `Unreachable` unless Redis answers."""
    await (await exchange()).check()


async def publish(run: "SharedRun") -> None:
    """Let other processes follow the answer; return once they have all of it."""
    await (await exchange()).publish(run)


async def stop(message: Message) -> Message:
    """Have the process that writes the answer stop it; return the message as it is stored after that."""
    await check()
    await (await exchange()).stop(message)
    return await refreshed(message)


async def so_far(message: Message) -> Message:
    """Return the message with as much of an answer as another process has written."""
    if is_on() and not message.has_ended:
        message.take_events(await (await exchange()).events(message))
    return message


async def refreshed(message: Message) -> Message:
    await STORING.run(message.refresh_from_db)
    return message


def sealed_events(message: Message) -> list[str]:
    """Return what is known of the stream of an answer whose process is gone, and let nothing be added to it."""
    if not is_on():
        return []
    exchanges(get_settings().REDIS_URL)
    from assistant.cluster.redis import seal

    try:
        return seal(message)
    except Exception:  # better ended without its text than running for ever
        logger.exception("message=%s state=text_lost", message.pk)
        return []


async def aclose() -> None:
    """Let go of Redis, once it has the last events."""
    if is_on():
        await exchanges(get_settings().REDIS_URL).aclose()
