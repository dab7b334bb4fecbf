"""Background batches over HTTP: accept, progress, results, cancel and retry."""

from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from batching.api import progress, streams
from batching.api.base import BatchingView, get_batch, number
from batching.api.serializers import AcceptedSerializer, BackgroundBatchSerializer
from batching.background import acceptance, celery, embedded, queue, webhooks
from batching.background.acceptance import JSONBody
from batching.conf import BatchingSettings, get_settings
from batching.errors import NotInBackground
from batching.items import request_factory
from batching.items.ndjson import Upload
from batching.items.paths import AllowedPaths
from batching.items.request_factory import is_asgi
from batching.models import Batch
from batching.run import identity
from wire.api.idempotency import idempotency_key
from wire.api.openapi import OpenApiParameter, OpenApiResponse, OpenApiTypes, event_stream, extend_schema, fails
from wire.api.requests import choice
from wire.api.sse import frames
from wire.asgi import draining
from wire.asgi.threads import give_connections_back
from wire.observe.request_id import request_id

PRIORITIES = {str(one.label): one for one in Batch.Priority}
PRIORITY = OpenApiParameter("priority", str, enum=list(PRIORITIES), description="Of a batch in the background.")
EXPIRES_AFTER = OpenApiParameter(
    "expires_after", int, description="Seconds after which items that haven't started never start."
)
WEBHOOK = OpenApiParameter("webhook", str, description="The https URL that gets a message once the batch has ended.")
BACKGROUND_PARAMETERS = [PRIORITY, EXPIRES_AFTER, WEBHOOK]
ACCEPTED = OpenApiResponse(AcceptedSerializer, "Accepted: it runs in the background, even if this process dies.")
PROGRESS = event_stream("`start`, a `progress` whenever counts have changed, then `end`.")


class LinesParser(BaseParser):
    """Leaves the body unread: for a session, DRF would parse it to look for a form's CSRF token."""

    media_type = streams.LINES

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {}


class BatchResultsView(BatchingView):
    @extend_schema(
        operation_id="batch_results",
        parameters=[
            OpenApiParameter("status", str, enum=progress.RESULTS, description="Only items in this state."),
            OpenApiParameter("after", int, description="Only items at later positions; the first is at 0."),
        ],
        responses={
            (200, streams.LINES): OpenApiResponse(OpenApiTypes.STR, "One item per line."),
            **fails(400, 401, 403, 404),
        },
    )
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """The responses of the items that have ended, by position."""
        batch = get_batch(request, batch_id)
        state, after = choice(request, "status", progress.RESULTS, default=None), position(request)
        give_connections_back()
        return progress.response(
            progress.results(batch.pk, state, after), streams.LINES, is_asgi=is_asgi(request._request)
        )


class BatchEventsView(BatchingView):
    @extend_schema(
        operation_id="batch_events", responses={(200, streams.EVENTS): PROGRESS, **fails(401, 403, 404, 503)}
    )
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """The progress of a batch as events, until it has ended."""
        draining.refuse()
        batch = get_batch(request, batch_id)
        give_connections_back()
        return progress.response(
            frames(lambda push: progress.events(batch.pk)), streams.EVENTS, is_asgi=is_asgi(request._request)
        )


class BatchCancelView(BatchingView):
    @extend_schema(
        operation_id="batch_cancel",
        request=None,
        responses={200: BackgroundBatchSerializer, **fails(401, 403, 404, 409)},
    )
    def post(self, request: Request, batch_id: str) -> Response:
        """Start no more items of a batch and keep the finished ones; a batch that has ended stays as it is."""
        batch = get_batch(request, batch_id)
        if not batch.is_background:
            raise NotInBackground
        queue.cancel(batch)
        batch.refresh_from_db()
        return Response(BackgroundBatchSerializer(batch).data)


class BatchRetryView(BatchingView):
    @extend_schema(
        operation_id="batch_retry",
        request=None,
        parameters=[EXPIRES_AFTER, WEBHOOK],
        responses={202: ACCEPTED, **fails(400, 401, 403, 404, 409, 429)},
    )
    def post(self, request: Request, batch_id: str) -> Response:
        """Retry the failed and expired items as a new batch."""
        settings = get_settings()
        parent = get_batch(request, batch_id)
        batch, webhook = background_batch(request, settings), webhook_url(request, settings)
        acceptance.retry(parent, batch, script_name=request.META["SCRIPT_NAME"], settings=settings, webhook=webhook)
        return accepted_response(batch, request.path.removesuffix(f"/{parent.pk}/retry"))


# Accepting.


def accept(request: Request, settings: BatchingSettings) -> Response:
    """Commit a batch that runs in the background."""
    allowed = AllowedPaths(settings.BATCH_ALLOWED_PATHS, request.META["SCRIPT_NAME"])
    max_size = settings.BATCH_ASYNC_MAX_SIZE
    batch = background_batch(request, settings)
    batch.idempotency_key = idempotency_key(request)
    batch.priority = PRIORITIES[choice(request, "priority", PRIORITIES, default="normal")]
    webhook = webhook_url(request, settings)
    body: Upload | JSONBody = upload(request, settings) if is_lines(request) else JSONBody(request.data, max_size)
    earlier = acceptance.find_replay(batch, body, allowed)
    if earlier is None:
        acceptance.accept(batch, body, allowed=allowed, max_size=max_size, settings=settings, webhook=webhook)
    response = accepted_response(earlier or batch, request.path)
    if earlier:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def background_batch(request: Request, settings: BatchingSettings) -> Batch:
    current = request_id.get()
    return acceptance.batch_for(
        request.user,
        settings,
        expires_after=expires_after(request, settings),
        request_id="" if current == "-" else current,
        client_address=request.META.get("REMOTE_ADDR") or "",
        origin=request_factory.dump(request._request),
        identity=identity.dump(request),
    )


def upload(request: Request, settings: BatchingSettings) -> Upload:
    """Return the body as NDJSON, unread."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return Upload(
        request._request,
        max_bytes=settings.BATCH_ASYNC_MAX_BYTES,
        max_line=settings.BATCH_MAX_BYTES,
        expected=int(length) if length.isdecimal() else None,
    )


def accepted_response(batch: Batch, path: str) -> Response:
    embedded.wake()
    celery.wake_for(batch)
    headers = {"Location": f"{path}/{batch.pk}", "Preference-Applied": "respond-async"}
    return Response(progress.represent(batch), status=202, headers=headers)


# Parameters of a request.


def is_lines(request: Request) -> bool:
    return request._request.content_type == streams.LINES


def expires_after(request: Request, settings: BatchingSettings) -> int | None:
    """Return the seconds after which a background batch expires. Raises `ValidationError`."""
    seconds = number(request, "expires_after")
    if seconds is not None and not 0 < seconds <= settings.BATCH_EXPIRES_AFTER:
        raise ValidationError(
            {"expires_after": [f"This has to be from 1 to {settings.BATCH_EXPIRES_AFTER:g} seconds."]}
        )
    return seconds


def webhook_url(request: Request, settings: BatchingSettings) -> str:
    """Return the URL of the caller's webhook, if there is one. Raises `BadWebhook`."""
    url: str = request.query_params.get("webhook", "")
    if url:
        webhooks.check_url(url, settings)
    return url


def position(request: Request) -> int:
    """Return the position after which results start. Raises `ValidationError`."""
    after = number(request, "after")
    return -1 if after is None else after
