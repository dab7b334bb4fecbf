"""Executes one attempt at an item of a background batch, and decides whether another follows."""

import logging
import random
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from django.db import DataError
from django.utils import timezone
from django.utils.http import parse_http_date_safe

from batching.background import queue
from batching.background.queue import Attempt, AttemptResult
from batching.conf import BatchingSettings
from batching.errors import CallerError
from batching.items import request_factory, response
from batching.items.item import ItemRequest, ItemResponse
from batching.run import dispatch
from wire.errors import sentence
from wire.observe import tracing

logger = logging.getLogger(__name__)

# By these the view says that it did nothing. After the others only an idempotent method is tried again.
NOT_PROCESSED = (429, 503)
TRANSIENT = (*NOT_PROCESSED, 502, 504)
IDEMPOTENT = ("GET", "PUT", "DELETE")
LONGEST_BACKOFF = 60.0

REVOKED = ItemResponse(401, error=sentence(401))


def execute(attempt: Attempt, settings: BatchingSettings) -> ItemResponse:
    """Return the response to an attempt, as its caller would get it. Runs in a thread of its own."""
    if attempt.caller is None:
        return REVOKED
    factory = request_factory.load(attempt.batch.origin or {}, settings.BATCH_ALLOWED_PATHS)
    defaults = {"idempotency-key": f"{attempt.batch.pk}:{attempt.position}"}
    if attempt.batch.request_id:
        defaults["x-request-id"] = f"{attempt.batch.request_id}/{attempt.position}"
    try:
        request = factory.request(ItemRequest.load(attempt.stored_request), defaults)
    except CallerError as error:
        return ItemResponse.from_error(error)
    span = partial(span_of, attempt)
    read = partial(response.read, max_bytes=settings.BATCH_ITEM_MAX_BYTES)
    return dispatch.execute(request, read, streamed=False, span=span, caller=attempt.caller)


def span_of(attempt: Attempt) -> tracing.Span:
    """Return the span of an item, in a trace of its own: that of its batch would have 50,000 of them."""
    attributes = {
        "batch.id": attempt.batch.pk,
        "batch.item.position": attempt.position,
        "batch.item.attempt": attempt.number,
    }
    link = (attempt.batch.origin or {}).get("traceparent", "")
    return tracing.span("item", attributes, kind="consumer", link=link)


def conclude(results: list[AttemptResult], settings: BatchingSettings) -> bool:
    """Write final results, and put the items of the others back into the queue."""
    final = []
    for result in results:
        if is_retryable(result, settings):
            queue.release(result.attempt, retry_time(result), counts=True)
        else:
            final.append(result)
    try:
        queue.finish(final, settings.BATCH_STORED_BODY_BYTES)
    except DataError:
        logger.exception("results=%s state=not_storable", len(final))
        for result in final:
            finish_alone(result, settings.BATCH_STORED_BODY_BYTES)
    return True


def finish_alone(result: AttemptResult, room: int) -> None:
    """Write one result; where the database can't hold it, write that the item crashed."""
    try:
        queue.finish([result], room)
    except DataError:
        queue.finish([replace(result, response=response.CRASHED)], room)


def is_retryable(result: AttemptResult, settings: BatchingSettings) -> bool:
    """Tell whether an item is tried again: its failure may be transient, and a second call does no harm."""
    status, attempt = result.response.status, result.attempt
    is_final = result.timed_out or result.response.is_final or attempt.number >= settings.BATCH_MAX_ATTEMPTS
    if status not in TRANSIENT or is_final:
        return False
    return status in NOT_PROCESSED or ItemRequest.load(attempt.stored_request).method in IDEMPOTENT


def retry_time(result: AttemptResult) -> datetime:
    """Return when an item is tried again: after an exponential backoff with jitter, and not before its Retry-After."""
    backoff = min(LONGEST_BACKOFF, 2.0**result.attempt.number) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
    return timezone.now() + timedelta(seconds=max(backoff, retry_after(result.response)))


def retry_after(response: ItemResponse) -> float:
    """Return the seconds of a Retry-After header; 0 without one."""
    value = next((value for name, value in response.headers.items() if name.lower() == "retry-after"), "")
    if value.isascii() and value.isdigit():
        return float(value[:9])
    moment = parse_http_date_safe(value)
    return max(0.0, moment - time.time()) if moment else 0.0
