"""Tells callers that their background batches have ended: signed, once at least, and nowhere inside the network.

Message, headers and signature are those of https://www.standardwebhooks.com. What is still to be told stands in the
rows: every process that works on background batches tells it, and goes on with what others had begun when they died.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings as project
from django.http.request import validate_host
from django.utils import timezone

from batching.conf import BatchingSettings, get_settings
from batching.errors import BadWebhook
from batching.models import Batch, Webhook

if TYPE_CHECKING:
    from yarl import URL

logger = logging.getLogger(__name__)

# Seconds between two looks at what is to be told.
PACE = 1.0
# Messages on their way at once from a process, and the seconds that one may take.
SIDE_BY_SIDE = 10
TIMEOUT = 10.0
# Seconds after which an attempt that nothing was heard of counts as failed: its process died.
LEASE = 30.0
# Seconds from each attempt that failed to the next one. After the last one nothing more is tried.
BACKOFF = (5, 60, 300, 1_800, 7_200, 18_000, 36_000)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_CHARS = 2_000
GONE = 410

InRows = Callable[[Callable[[], Any], Any], Awaitable[Any]]


def allowed(address: str, settings: BatchingSettings) -> "URL":
    """Return where a caller wants to be told, if that may be. Raises `BadWebhook`."""
    if not settings.BATCH_WEBHOOK_HOSTS:
        raise BadWebhook("Nobody can be told here (BATCH_WEBHOOK_HOSTS is empty).")
    from yarl import URL  # of the extra `webhooks`, as all that is imported inside functions here

    try:
        url = URL(address)
    except ValueError:
        raise BadWebhook("This isn't a web address.") from None
    if len(address) > MAX_CHARS:
        raise BadWebhook(f"This may have {MAX_CHARS} characters.")
    if not is_local(url) and (url.scheme, url.port) != ("https", 443):
        raise BadWebhook("This has to be an https address, at port 443.")
    if url.user is not None or url.password is not None:
        raise BadWebhook("A user or password can't be in it.")
    if not validate_host(url.raw_host or "", settings.BATCH_WEBHOOK_HOSTS):
        raise BadWebhook("This host may not be told here (BATCH_WEBHOOK_HOSTS).")
    return url


def is_local(url: "URL") -> bool:
    """Tell whether it is a developer's own machine, where plain http and any port will do."""
    return bool(project.DEBUG) and url.scheme == "http" and url.raw_host in LOOPBACK


def message(batch: Batch) -> str:
    """Return what is told of a batch; the same at each attempt."""
    ended = batch.finished_at or timezone.now()
    return json.dumps(
        {
            "type": f"batch.{batch.status}",
            "timestamp": ended.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": {"batch_id": batch.pk, "status": batch.status, "counts": batch.counts},
        }
    )


def headers(batch_id: str, content: str, secret: str) -> dict[str, str]:
    """Return the headers of an attempt that is made now. A batch is told of once, so that its id is the message's."""
    from standardwebhooks import Webhook as Signer

    now = datetime.now(UTC)
    return {
        "Content-Type": "application/json",
        "User-Agent": "django-assistant-backend",
        "Webhook-Id": batch_id,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Signer(secret).sign(msg_id=batch_id, timestamp=now, data=content),
    }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed; after one that is `final` nothing more is tried."""

    reason: str
    final: bool = False


async def told(webhook: Webhook, content: str, settings: BatchingSettings) -> Failure | None:
    """Send a message once."""
    try:
        url = allowed(webhook.url, settings)
    except BadWebhook:
        return Failure("It may not be told any more.", final=True)
    import aiohttp  # it takes half a second to import

    from wire.outbound import PUBLIC, NoSuchHost, NotAllowed, Reach, is_loopback, requested

    try:
        reach = Reach(is_loopback) if is_local(url) else PUBLIC
        signed = headers(webhook.batch_id, content, settings.BATCH_WEBHOOK_SECRET)
        async with (
            asyncio.timeout(TIMEOUT),
            requested("POST", url, reach, headers=signed, content=content.encode()) as response,
        ):
            return None if 200 <= response.status < 300 else refused(response.status)
    except NotAllowed:
        return Failure("Its address isn't public.")
    except NoSuchHost:
        return Failure("There is no such host.")
    except TimeoutError:
        return Failure(f"It took longer than {TIMEOUT:g} s.")
    except (aiohttp.ClientError, OSError):
        return Failure("It can't be reached.")


def refused(status: int) -> Failure:
    return Failure(f"It answered {status}.", final=status == GONE)


# The rows.


def claim() -> list[tuple[Webhook, str]]:
    """Begin the attempts that are due; returns them with what is to be told."""
    until = timezone.now() + timedelta(seconds=LEASE)
    due = list(Webhook.objects.due().select_related("batch")[:SIDE_BY_SIDE])
    return [(one, message(one.batch)) for one in due if may_try(one) and one.claim(until)]


def may_try(webhook: Webhook) -> bool:
    """Tell whether there is an attempt left; the last one may have died with its process."""
    if webhook.attempts <= len(BACKOFF):
        return True
    webhook.give_up(webhook.error or "The processes that tried it died.")
    return False


def note(webhook: Webhook, failure: Failure | None) -> None:
    """Write how an attempt went."""
    if failure is None:
        webhook.deliver()
    elif failure.final or webhook.attempts > len(BACKOFF):
        webhook.give_up(failure.reason)
    else:
        wait = BACKOFF[webhook.attempts - 1] * random.uniform(1.0, 1.2)  # noqa: S311  # no secret
        webhook.put_off(failure.reason, timezone.now() + timedelta(seconds=wait))
    logger.info(
        "batch=%s webhook=%s attempt=%s reason=%r", webhook.batch_id, webhook.state, webhook.attempts, webhook.error
    )


class Messenger:
    """Tells what there is to tell.

    `in_rows` does its first argument in the thread of the rows, and returns its second where the database fails.
    """

    def __init__(self, in_rows: InRows) -> None:
        self._in_rows = in_rows
        self._busy = asyncio.Lock()

    async def work(self) -> None:
        """Deliver until cancelled; what was on its way then is sent again by another process."""
        while True:
            await self.deliver()
            await asyncio.sleep(PACE)

    async def deliver(self) -> None:
        """Make the attempts that are due now, side by side."""
        async with self._busy, asyncio.TaskGroup() as group:
            for webhook, content in await self._in_rows(claim, []):
                group.create_task(self._attempt(webhook, content))

    async def _attempt(self, webhook: Webhook, content: str) -> None:
        try:
            failure = await told(webhook, content, get_settings())
        except Exception:  # a mistake of ours: the others are told all the same
            logger.exception("batch=%s webhook=crashed", webhook.batch_id)
            failure = Failure("It failed.")
        await self._in_rows(lambda: note(webhook, failure), None)
