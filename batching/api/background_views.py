"""Background batches over HTTP: accepted at once, watched, read, cancelled and retried."""

from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from batching.api import progress, streams
from batching.api.base import BatchingView, choice, found, number, rules_of
from batching.api.serializers import AcceptedSerializer, BackgroundBatchSerializer
from batching.background import accept as acceptance
from batching.background import celery, embedded, queue, webhooks
from batching.background.accept import JSONBody
from batching.conf import BatchingSettings, get_settings
from batching.errors import NotInBackground
from batching.items import request_factory
from batching.items.lines import Upload
from batching.items.request_factory import factory_of
from batching.models import Batch
from batching.run import identity
from wire.api.openapi import OpenApiParameter, OpenApiResponse, OpenApiTypes, event_stream, extend_schema, fails
from wire.api.requests import idempotency_key
from wire.asgi import draining
from wire.asgi.threads import give_connections_back
from wire.observe.request_id import request_id

PRIORITIES = {str(one.label): one for one in Batch.Priority}
PRIORITY = OpenApiParameter("priority", str, enum=list(PRIORITIES), description="Of a batch in the background.")
EXPIRES_AFTER = OpenApiParameter(
    "expires_after", int, description="Seconds after which what hasn't started of it never starts."
)
WEBHOOK = OpenApiParameter("webhook", str, description="The https address that is told once it has ended.")
IN_BACKGROUND = [PRIORITY, EXPIRES_AFTER, WEBHOOK]
ACCEPTED = OpenApiResponse(AcceptedSerializer, "Accepted: it runs in the background, whatever becomes of this process.")
PROGRESS = event_stream("`start`, a `progress` whenever counts have changed, then `end`.")


class LinesParser(BaseParser):
    """Leaves the body unread: authentication by session has DRF parse it, to look for a form's CSRF token."""

    media_type = streams.LINES

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {}


class BatchResultsView(BatchingView):
    @extend_schema(
        operation_id="batch_results",
        parameters=[
            OpenApiParameter("status", str, enum=progress.RESULTS, description="Only items that ended so."),
            OpenApiParameter("after", int, description="Only items at later positions; the first is at 0."),
        ],
        responses={
            (200, streams.LINES): OpenApiResponse(OpenApiTypes.STR, "An item a line."),
            **fails(400, 401, 403, 404),
        },
    )
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """The answers of the items that have ended, in the order of their positions."""
        batch = found(request, batch_id)
        state, after = choice(request, "status", progress.RESULTS), position(request)
        give_connections_back()
        in_server = factory_of(request._request).in_server
        return progress.response(progress.results(batch.pk, state, after), streams.LINES, in_server=in_server)


class BatchEventsView(BatchingView):
    @extend_schema(
        operation_id="batch_events", responses={(200, streams.EVENTS): PROGRESS, **fails(401, 403, 404, 503)}
    )
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """How far a batch is, live, until it has ended."""
        draining.refuse()
        batch = found(request, batch_id)
        give_connections_back()
        in_server = factory_of(request._request).in_server
        return progress.response(progress.events(batch.pk), streams.EVENTS, in_server=in_server)


class BatchCancelView(BatchingView):
    @extend_schema(
        operation_id="batch_cancel",
        request=None,
        responses={200: BackgroundBatchSerializer, **fails(401, 403, 404, 409)},
    )
    def post(self, request: Request, batch_id: str) -> Response:
        """Start nothing more of a batch and keep what is finished; of one that has ended nothing changes."""
        batch = found(request, batch_id)
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
        """Run the items that failed or expired again, as a new batch."""
        settings = get_settings()
        parent = found(request, batch_id)
        batch, webhook = background_batch(request, settings), webhook_of(request, settings)
        script_name = factory_of(request._request).script_name
        acceptance.retry(parent, batch, script_name=script_name, settings=settings, webhook=webhook)
        return as_accepted(batch, request.path.removesuffix(f"/{parent.pk}/retry"))


# Accepting.


def accept(request: Request, settings: BatchingSettings) -> Response:
    """Commit a batch and have it run in the background."""
    rules = rules_of(settings, factory_of(request._request), settings.BATCH_ASYNC_MAX_SIZE)
    batch = background_batch(request, settings)
    batch.idempotency_key = idempotency_key(request)
    batch.priority = PRIORITIES[choice(request, "priority", PRIORITIES) or "normal"]
    webhook = webhook_of(request, settings)
    body: Upload | JSONBody = upload(request, settings) if is_lines(request) else JSONBody(request.data)
    known = acceptance.known(batch, body, rules)
    if known is None:
        acceptance.accept(batch, body, rules=rules, settings=settings, webhook=webhook)
    response = as_accepted(known or batch, request.path)
    if known:
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
        origin=request_factory.kept(request._request),
        identity=identity.kept(request),
    )


def upload(request: Request, settings: BatchingSettings) -> Upload:
    """Return the body as lines, unread."""
    announced = request.META.get("CONTENT_LENGTH") or ""
    return Upload(
        request._request,
        max_bytes=settings.BATCH_ASYNC_MAX_BYTES,
        max_line=settings.BATCH_MAX_BYTES,
        expected=int(announced) if announced.isdecimal() else None,
    )


def as_accepted(batch: Batch, path: str) -> Response:
    embedded.wake()
    celery.call_for(batch)
    headers = {"Location": f"{path}/{batch.pk}", "Preference-Applied": "respond-async"}
    return Response(progress.represent(batch), status=202, headers=headers)


# What a request says.


def is_lines(request: Request) -> bool:
    return request._request.content_type == streams.LINES


def expires_after(request: Request, settings: BatchingSettings) -> int | None:
    """Return the seconds that a background batch may wait and run. Raises `ValidationError`."""
    said = number(request, "expires_after")
    if said is not None and not 0 < said <= settings.BATCH_EXPIRES_AFTER:
        raise ValidationError(
            {"expires_after": [f"This has to be from 1 to {settings.BATCH_EXPIRES_AFTER:g} seconds."]}
        )
    return said


def webhook_of(request: Request, settings: BatchingSettings) -> str:
    """Return where the caller wants to be told of the end of a background batch. Raises `BadWebhook`."""
    address: str = request.query_params.get("webhook", "")
    if address:
        webhooks.allowed(address, settings)
    return address


def position(request: Request) -> int:
    """Return the position after which results are wanted. Raises `ValidationError`."""
    said = number(request, "after")
    return -1 if said is None else said
