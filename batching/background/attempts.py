"""One attempt at an item of a background batch: how it is answered, and whether that was the last one."""

import logging
import random
import time
from datetime import datetime, timedelta
from functools import partial

from django.db import DataError
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from batching.background import queue
from batching.background.queue import Claimed, Ending
from batching.conf import BatchingSettings
from batching.errors import CallerError
from batching.items import response
from batching.items.item import ItemResponse
from batching.items.parse import Rules
from batching.items.request import prepared, restored
from batching.items.request_factory import factory_from
from batching.run import dispatch
from wire.errors import sentence
from wire.observe import tracing

logger = logging.getLogger(__name__)

# The view did nothing, or so it says; what else may be tried again is what may be done twice.
UNTOUCHED = (429, 503)
PASSING = (*UNTOUCHED, 502, 504)
REPEATABLE = ("GET", "PUT", "DELETE")
LONGEST_BACKOFF = 60.0

GONE = ItemResponse(401, error=sentence(401))


def carried_out(claimed: Claimed, settings: BatchingSettings) -> ItemResponse:
    """Return how a claimed item was answered, as its caller is answered. Runs in a thread of its own."""
    if claimed.caller is None:
        return GONE
    origin = factory_from(claimed.batch.origin or {})
    rules = Rules(max_size=1, allowed=settings.BATCH_ALLOWED_PATHS, script_name=origin.script_name)
    extra = {"idempotency-key": f"{claimed.batch.pk}:{claimed.position}"}
    if claimed.batch.request_id:
        extra["x-request-id"] = f"{claimed.batch.request_id}/{claimed.position}"
    try:
        sent = prepared(restored(claimed.call), rules, extra)
    except CallerError as error:
        return ItemResponse(error.status, error=error.message, details=error.details)
    return dispatch.answered(
        sent, origin, response.read, streamed=False, span=partial(span_of, claimed), caller=claimed.caller
    )


def span_of(claimed: Claimed) -> tracing.Span:
    """Return the span of an item, in a trace of its own: that of its batch would have 50,000 of them."""
    attributes = {
        "batch.id": claimed.batch.pk,
        "batch.item.position": claimed.position,
        "batch.item.attempt": claimed.attempts,
    }
    link = (claimed.batch.origin or {}).get("traceparent", "")
    return tracing.span("item", attributes, kind="consumer", link=link)


def conclude(endings: list[Ending], settings: BatchingSettings) -> bool:
    """Write how items ended, or put back those that are worth another try."""
    final = []
    for ending in endings:
        if worth_another(ending, settings):
            queue.release(ending.claimed, moment_of(ending), tried=True)
        else:
            final.append(ending)
    try:
        queue.finish(final, settings.BATCH_STORED_BODY_BYTES)
    except DataError:
        logger.exception("endings=%s state=not_storable", len(final))
        for ending in final:
            finish_alone(ending, settings.BATCH_STORED_BODY_BYTES)
    return True


def finish_alone(ending: Ending, room: int) -> None:
    """Write one ending, or where the database can't hold it, that it crashed."""
    try:
        queue.finish([ending], room)
    except DataError:
        queue.finish([Ending(ending.claimed, response.CRASHED, ending.started, ending.finished, ending.at)], room)


def worth_another(ending: Ending, settings: BatchingSettings) -> bool:
    """Tell whether an item is to be tried again: it may be done twice or did nothing, and the failure may pass."""
    status, claimed = ending.answer.status, ending.claimed
    if status not in PASSING or claimed.attempts >= settings.BATCH_MAX_ATTEMPTS or ending.timed_out:
        return False
    return status in UNTOUCHED or restored(claimed.call).method in REPEATABLE


def moment_of(ending: Ending) -> datetime:
    """Return when an item is to be tried again: when its answer says, or twice as late each time, never all at once."""
    backoff = min(LONGEST_BACKOFF, 2.0**ending.claimed.attempts) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
    return timezone.now() + timedelta(seconds=max(backoff, asked_wait(ending.answer)))


def asked_wait(answer: ItemResponse) -> float:
    """Return the seconds that a Retry-After asks for."""
    said = next((value for name, value in answer.headers.items() if name.lower() == "retry-after"), "")
    if said.isascii() and said.isdigit():
        return float(said[:9])
    moment = parse_http_date_safe(said)
    return max(0.0, moment - time.time()) if moment else 0.0
