"""Webhooks at the end of background batches: signed, at least once, and never to an address inside the network.

Message, headers and signature follow https://www.standardwebhooks.com. Pending webhooks are rows: each process that
runs an engine sends them, also those that another process had begun when it died.
"""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
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

# Seconds between two reads of pending webhooks.
PACE = 1.0
# Messages that a process sends at once, and the seconds of one.
SIDE_BY_SIDE = 10
TIMEOUT = 10.0
# Seconds after which an attempt without a result counts as failed: its process died.
LEASE = 30.0
# Seconds from each failed attempt to the next; after the last, the webhook has failed.
BACKOFF = (5, 60, 300, 1_800, 7_200, 18_000, 36_000)

LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_CHARS = 2_000

InRows = Callable[[Callable[[], Any], Any], Awaitable[Any]]


def check_url(address: str, settings: BatchingSettings) -> "URL":
    """Return the URL of a webhook, if it is allowed. Raises `BadWebhook`."""
    if not settings.BATCH_WEBHOOK_HOSTS:
        raise BadWebhook("Webhooks are disabled: set BATCH_WEBHOOK_HOSTS.")
    from yarl import URL  # of the extra `webhooks`, as all that is imported inside functions here

    try:
        url = URL(address)
    except ValueError:
        raise BadWebhook("This is not a URL.") from None
    if len(address) > MAX_CHARS:
        raise BadWebhook(f"This may have {MAX_CHARS} characters.")
    if not is_local(url) and (url.scheme, url.port) != ("https", 443):
        raise BadWebhook("This has to be an https URL at port 443.")
    if url.user is not None or url.password is not None:
        raise BadWebhook("This may not contain a user or password.")
    if not validate_host(url.raw_host or "", settings.BATCH_WEBHOOK_HOSTS):
        raise BadWebhook("This host is not allowed: add it to BATCH_WEBHOOK_HOSTS.")
    return url


def is_local(url: "URL") -> bool:
    """Tell whether a URL is on a developer's own machine, where plain http and any port are fine."""
    return bool(project.DEBUG) and url.scheme == "http" and url.raw_host in LOOPBACK


def message(batch: Batch) -> str:
    """Return the message about a batch; it is the same at each attempt."""
    ended = batch.finished_at or timezone.now()
    return json.dumps(
        {
            "type": f"batch.{batch.status}",
            "timestamp": ended.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "data": {"batch_id": batch.pk, "status": batch.status, "counts": batch.counts},
        }
    )


def headers(batch_id: str, content: str, secret: str) -> dict[str, str]:
    """Return the headers of an attempt made now. A batch has one message, whose id is the batch's."""
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
    """Why an attempt failed; after a `final` one none follows."""

    reason: str
    final: bool = False


async def send(webhook: Webhook, content: str, settings: BatchingSettings) -> Failure | None:
    """Send a message once; return the failure, if there is one."""
    try:
        url = check_url(webhook.url, settings)
    except BadWebhook:
        return Failure("Its URL is no longer allowed.", final=True)
    import aiohttp  # it takes half a second to import

    from wire.outbound import PUBLIC, AddressPolicy, NoSuchHost, NotAllowed, http_request, is_loopback

    try:
        reach = AddressPolicy(is_loopback) if is_local(url) else PUBLIC
        signed = headers(webhook.batch_id, content, settings.BATCH_WEBHOOK_SECRET)
        async with (
            asyncio.timeout(TIMEOUT),
            http_request("POST", url, reach, headers=signed, content=content.encode()) as response,
        ):
            return None if 200 <= response.status < 300 else failure_of(response.status)
    except NotAllowed:
        return Failure("Its address isn't public.")
    except NoSuchHost:
        return Failure("There is no such host.")
    except TimeoutError:
        return Failure(f"It took longer than {TIMEOUT:g} s.")
    except (aiohttp.ClientError, OSError):
        return Failure("It can't be reached.")


def failure_of(status: int) -> Failure:
    return Failure(f"It answered {status}.", final=status == HTTPStatus.GONE)


# The rows.


def claim() -> list[tuple[Webhook, str]]:
    """Begin the attempts that are due; return them with their messages."""
    until = timezone.now() + timedelta(seconds=LEASE)
    due = list(Webhook.objects.due().select_related("batch")[:SIDE_BY_SIDE])
    return [(one, message(one.batch)) for one in due if has_attempt_left(one) and one.claim(until)]


def has_attempt_left(webhook: Webhook) -> bool:
    """Tell whether an attempt is left; fail the webhook where the last one died with its process."""
    if webhook.attempts <= len(BACKOFF):
        return True
    webhook.give_up(webhook.error or "The processes that sent it died.")
    return False


def record(webhook: Webhook, failure: Failure | None) -> None:
    """Write the result of an attempt."""
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


class WebhookSender:
    """Sends pending webhooks.

    `in_rows` calls its first argument in the thread of the rows, and returns its second where the database fails.
    """

    def __init__(self, in_rows: InRows) -> None:
        self._in_rows = in_rows
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Deliver until cancelled; another process repeats the unfinished attempts."""
        while True:
            await self.deliver()
            await asyncio.sleep(PACE)

    async def deliver(self) -> None:
        """Make the attempts that are due, side by side."""
        async with self._busy, asyncio.TaskGroup() as group:
            for webhook, content in await self._in_rows(claim, []):
                group.create_task(self._attempt(webhook, content))

    async def _attempt(self, webhook: Webhook, content: str) -> None:
        try:
            failure = await send(webhook, content, get_settings())
        except Exception:  # an error of this app: the other webhooks are sent all the same
            logger.exception("batch=%s webhook=crashed", webhook.batch_id)
            failure = Failure("It failed.")
        await self._in_rows(lambda: record(webhook, failure), None)
