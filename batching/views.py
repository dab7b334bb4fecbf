"""The HTTP API: parse, one call, respond."""

import json
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import close_old_connections, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from batching import (
    acceptance,
    batches,
    dispatch,
    engine,
    fleet,
    identity,
    intake,
    origin,
    progress,
    queue,
    streams,
    webhooks,
)
from batching.acceptance import Retried, Whole
from batching.batches import Ask
from batching.conf import Settings, get_settings
from batching.errors import (
    NestedBatch,
    NotFinished,
    NotFound,
    NothingToRetry,
    NotInBackground,
    NotNDJSON,
    SwitchedOff,
)
from batching.execution import Execution, Terms
from batching.intake import Rules
from batching.models import Batch
from batching.origin import Origin, origin_of
from batching.outbox import Outbox
from batching.serializers import (
    AcceptedSerializer,
    BackgroundBatchSerializer,
    BatchDetailSerializer,
    BatchRequestSerializer,
    BatchSerializer,
    EnvelopeSerializer,
)
from batching.uploads import Upload
from wire import draining
from wire.middleware import request_id
from wire.openapi import event_stream, fails
from wire.requests import flag, idempotency_key
from wire.rest import Pages, StrictJSONParser
from wire.views import JSONView

PRIORITIES = {str(one.label): one for one in Batch.Priority}
PRIORITY = OpenApiParameter("priority", str, enum=list(PRIORITIES), description="Of a batch in the background.")
EXPIRES_AFTER = OpenApiParameter(
    "expires_after", int, description="Seconds after which what hasn't started of it never starts."
)
WEBHOOK = OpenApiParameter("webhook", str, description="The https address that is told once it has ended.")
IN_BACKGROUND = [PRIORITY, EXPIRES_AFTER, WEBHOOK]
EVENT_STREAM = event_stream("`start`, `response` and `item` events, then `end` or `error`.")
ASKED = OpenApiExample(
    "A batch whose second item builds on the first",
    request_only=True,
    value={
        "requests": [
            {"id": "found", "method": "GET", "path": "/api/books?title=Emma"},
            {"id": "read", "method": "GET", "path": "/api/books/{{found.body.results.0.id}}"},
        ]
    },
)
ANSWERED = OpenApiExample(
    "One item answered, one refused",
    response_only=True,
    status_codes=["200"],
    media_type="application/json",
    value={
        "batch_id": "batch_5f2c",
        "responses": [
            {"id": "req_1", "status": 200, "body": {"response": "Python is a language."}, "processing_time": 0.84},
            {"id": "req_2", "status": 400, "error": "Invalid parameters", "processing_time": 0.01},
        ],
        "total_processing_time": 0.85,
        "counts": {"total": 2, "succeeded": 1, "failed": 1},
    },
)

ACCEPTED = OpenApiResponse(AcceptedSerializer, "Accepted: it runs in the background, whatever becomes of this process.")
PROGRESS = event_stream("`start`, a `progress` whenever counts have changed, then `end`.")


class BatchParser(StrictJSONParser):
    """At most BATCH_MAX_BYTES of strict JSON."""

    def max_bytes(self) -> int:
        return get_settings().BATCH_MAX_BYTES


class LinesParser(BaseParser):
    """Leaves the body unread: authentication by session has DRF parse it, to look for a form's CSRF token."""

    media_type = streams.LINES

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return {}


class BatchingView(JSONView):
    """What the app's views share, in any project: strict JSON in, JSON out, and no batch within a batch."""

    parser_classes = [BatchParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Here the path has been resolved, however it was spelt and whatever middleware made of it.
        if dispatch.inside_item.get():
            raise NestedBatch
        super().initial(request, *args, **kwargs)
        # A server that has no lifespan goes on here with what it was working on when it ended.
        engine.start()


class NewestFirst(Pages):
    ordering = ("-created_at", "-id")


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class BatchesView(BatchingView, ListAPIView[Batch]):
    """The caller's batches, the newest first, paged."""

    parser_classes = [BatchParser, LinesParser]
    queryset = Batch.objects.none()
    serializer_class = BatchSerializer
    pagination_class = NewestFirst
    filter_backends = []

    @extend_schema(operation_id="batches", responses={200: BatchSerializer(many=True), **fails(400, 401)})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> Any:
        mine = Batch.objects.listed_for(self.request.user)
        mine.abandoned().interrupt()
        return mine

    @extend_schema(
        operation_id="batch",
        request={"application/json": BatchRequestSerializer, "application/x-ndjson": OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter(
                "Prefer",
                str,
                OpenApiParameter.HEADER,
                description="`respond-async`: accept now, run in the background.",
            ),
            *IN_BACKGROUND,
            OpenApiParameter("stream", bool, description="Answer as server-sent events, each item as soon as it is."),
            OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Same key, same answer."),
        ],
        responses={
            (200, "application/json"): EnvelopeSerializer,
            (200, streams.EVENTS): EVENT_STREAM,
            (200, streams.LINES): OpenApiResponse(OpenApiTypes.STR, "The same events, a line each."),
            202: ACCEPTED,
            **fails(400, 401, 403, 409, 413, 415, 422, 429, 503),
        },
        examples=[ASKED, ANSWERED],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Carry out requests side by side, each as if it had come alone."""
        began = time.monotonic()
        settings = get_settings()
        if not settings.BATCH_ENABLED:
            raise SwitchedOff
        if prefers_async(request):
            return accept(request, settings)
        if is_lines(request):
            raise NotNDJSON
        refuse_terms(request)
        media_type = wanted(request)
        if media_type:
            draining.refuse()
        origin = origin_of(request._request)
        terms = terms_of(settings, origin, began)
        ask = asked(request, terms)
        begun = batches.begin(ask, settings)
        if isinstance(begun, Batch):
            return replay(begun, media_type)
        execution = partial(Execution, ask.items, origin=origin, terms=terms, request_id=ask.request_id)
        if media_type:
            # What follows takes long and needs no connection.
            close_old_connections()
            outbox = Outbox()
            stream = streams.Stream(execution(outbox=outbox), outbox, begun, media_type)
            return streams.live(stream, media_type, in_server=origin.in_server)
        batches.answer(execution(), begun, in_server=origin.in_server)
        return as_json(batches.envelope(begun))


class BatchView(BatchingView):
    @extend_schema(operation_id="batch_detail", responses={200: BatchDetailSerializer, **fails(401, 404)})
    def get(self, request: Request, batch_id: str) -> Response:
        """One batch with its items, what was asked and what was answered; in the background, with live counts only."""
        batch = found(request, batch_id)
        kind = BackgroundBatchSerializer if batch.is_background else BatchDetailSerializer
        return Response(kind(batch).data)


class BatchResultsView(BatchingView):
    @extend_schema(
        operation_id="batch_results",
        parameters=[
            OpenApiParameter("status", str, enum=progress.RESULTS, description="Only items that ended so."),
            OpenApiParameter("after", int, description="Only items at later positions; the first is at 0."),
        ],
        responses={(200, streams.LINES): OpenApiResponse(OpenApiTypes.STR, "An item a line."), **fails(400, 401, 404)},
    )
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """The answers of the items that have ended, in the order of their positions."""
        batch = found(request, batch_id)
        state, after = choice(request, "status", progress.RESULTS), position(request)
        close_old_connections()
        in_server = origin_of(request._request).in_server
        return progress.response(progress.results(batch.pk, state, after), streams.LINES, in_server=in_server)


class BatchEventsView(BatchingView):
    @extend_schema(operation_id="batch_events", responses={(200, streams.EVENTS): PROGRESS, **fails(401, 404, 503)})
    def get(self, request: Request, batch_id: str) -> HttpResponseBase:
        """How far a batch is, live, until it has ended."""
        draining.refuse()
        batch = found(request, batch_id)
        close_old_connections()
        in_server = origin_of(request._request).in_server
        return progress.response(progress.events(batch.pk), streams.EVENTS, in_server=in_server)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class BatchCancelView(BatchingView):
    @extend_schema(
        operation_id="batch_cancel", request=None, responses={200: BackgroundBatchSerializer, **fails(401, 404, 409)}
    )
    def post(self, request: Request, batch_id: str) -> Response:
        """Start nothing more of a batch and keep what is finished; of one that has ended nothing changes."""
        batch = found(request, batch_id)
        if not batch.is_background:
            raise NotInBackground
        queue.cancel(batch)
        batch.refresh_from_db()
        return Response(BackgroundBatchSerializer(batch).data)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
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
        if not settings.BATCH_ENABLED:
            raise SwitchedOff
        parent = found(request, batch_id)
        if not parent.finished_at:
            raise NotFinished
        if not parent.retry_before:
            raise NothingToRetry
        batch = background_batch(request, settings)
        batch.parent, batch.priority = parent, parent.priority
        rules = rules_of(settings, origin_of(request._request), parent.total)
        webhook = webhook_of(request, settings)
        acceptance.accept(batch, Retried(parent), rules=rules, settings=settings, webhook=webhook)
        return as_accepted(batch, request.path.removesuffix(f"/{parent.pk}/retry"))


def found(request: Request, batch_id: str) -> Batch:
    """Return a batch of the caller's. Raises `NotFound`."""
    mine = Batch.objects.for_caller(request.user).filter(pk=batch_id)
    mine.abandoned().interrupt()
    if batch := mine.first():
        return batch
    raise NotFound


# A batch in the background.


def accept(request: Request, settings: Settings) -> Response:
    """Commit a batch and have it run in the background."""
    rules = rules_of(settings, origin_of(request._request), settings.BATCH_ASYNC_MAX_SIZE)
    batch = background_batch(request, settings)
    batch.idempotency_key = idempotency_key(request)
    batch.priority = PRIORITIES[choice(request, "priority", PRIORITIES) or "normal"]
    webhook = webhook_of(request, settings)
    body: Upload | Whole = upload(request, settings) if is_lines(request) else Whole(request.data)
    known = acceptance.known(batch, body, rules)
    if known is None:
        acceptance.accept(batch, body, rules=rules, settings=settings, webhook=webhook)
    response = as_accepted(known or batch, request.path)
    if known:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def background_batch(request: Request, settings: Settings) -> Batch:
    current = request_id.get()
    return acceptance.batch_for(
        request.user,
        settings,
        expires_after=expires_after(request, settings),
        request_id="" if current == "-" else current,
        client_address=request.META.get("REMOTE_ADDR") or "",
        origin=origin.kept(request._request),
        identity=identity.kept(request),
    )


def upload(request: Request, settings: Settings) -> Upload:
    """Return the body as lines, unread."""
    announced = request.META.get("CONTENT_LENGTH") or ""
    return Upload(
        request._request,
        max_bytes=settings.BATCH_ASYNC_MAX_BYTES,
        max_line=settings.BATCH_MAX_BYTES,
        expected=int(announced) if announced.isdecimal() else None,
    )


def as_accepted(batch: Batch, path: str) -> Response:
    engine.start()
    fleet.call_for(batch)
    headers = {"Location": f"{path}/{batch.pk}", "Preference-Applied": "respond-async"}
    return Response(progress.represent(batch), status=202, headers=headers)


# What a request says.


def wanted(request: Request) -> str | None:
    """Return the media type of the stream that is asked for; None for one answer at the end."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    kinds = [kind for kind in accepted if kind in (*streams.ENCODINGS, "application/json", "*/*")]
    kind = kinds[0] if kinds and kinds[0] in streams.ENCODINGS else None
    asked = flag(request, "stream")
    if asked is None:
        return kind
    return (kind or streams.EVENTS) if asked else None


def terms_of(settings: Settings, origin: Origin, began: float) -> Terms:
    return Terms(
        began=began,
        timeout=settings.BATCH_TIMEOUT,
        concurrency=settings.BATCH_CONCURRENCY,
        max_chars=settings.BATCH_MAX_BYTES,
        rules=rules_of(settings, origin, settings.BATCH_MAX_SIZE),
    )


def rules_of(settings: Settings, origin: Origin, max_size: int) -> Rules:
    return Rules(max_size=max_size, allowed=settings.BATCH_ALLOWED_PATHS, script_name=origin.script_name)


def prefers_async(request: Request) -> bool:
    """Tell whether the client wants to be answered before its batch is (RFC 7240)."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    return "respond-async" in (one.partition(";")[0].strip() for one in preferences)


def is_lines(request: Request) -> bool:
    return request._request.content_type == streams.LINES


def choice(request: Request, name: str, choices: Iterable[str]) -> str | None:
    """Return a value of the query, None where it says nothing. Raises `ValidationError`."""
    said = request.query_params.get(name)
    if said is not None and said not in (known := list(choices)):
        raise ValidationError({name: [f"This has to be one of {', '.join(known)}."]})
    return said


def position(request: Request) -> int:
    """Return the position after which results are wanted. Raises `ValidationError`."""
    said = number(request, "after")
    return -1 if said is None else said


def expires_after(request: Request, settings: Settings) -> int | None:
    """Return the seconds that a background batch may wait and run. Raises `ValidationError`."""
    said = number(request, "expires_after")
    if said is not None and not 0 < said <= settings.BATCH_EXPIRES_AFTER:
        raise ValidationError(
            {"expires_after": [f"This has to be from 1 to {settings.BATCH_EXPIRES_AFTER:g} seconds."]}
        )
    return said


def number(request: Request, name: str) -> int | None:
    """Return a whole number of the query, None where it says nothing. Raises `ValidationError`."""
    said = request.query_params.get(name)
    if said is None:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 10):
        raise ValidationError({name: ["This has to be a whole number."]})
    return int(said)


def webhook_of(request: Request, settings: Settings) -> str:
    """Return where the caller wants to be told of the end of a background batch. Raises `BadWebhook`."""
    address: str = request.query_params.get("webhook", "")
    if address:
        webhooks.allowed(address, settings)
    return address


def refuse_terms(request: Request) -> None:
    """Refuse what only a background batch heeds, where one is not asked for. Raises `ValidationError`."""
    if said := {one.name for one in IN_BACKGROUND} & request.query_params.keys():
        sentence = "This is for batches in the background (Prefer: respond-async)."
        raise ValidationError({name: [sentence] for name in said})


def asked(request: Request, terms: Terms) -> Ask:
    current = request_id.get()
    return Ask(
        caller=request.user,
        data=request.data,
        items=intake.read(request.data, terms.rules),
        began=terms.began,
        idempotency_key=idempotency_key(request),
        request_id="" if current == "-" else current,
        client_address=request.META.get("REMOTE_ADDR") or "",
    )


# From a batch to a response.


def replay(batch: Batch, media_type: str | None) -> HttpResponse:
    response = streams.replayed(batch, media_type) if media_type else as_json(batches.stored_envelope(batch))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def as_json(content: dict[str, Any]) -> HttpResponse:
    """Render what items were answered with as it is: DRF's renderer refuses half of a surrogate pair."""
    return HttpResponse(json.dumps(content), content_type="application/json")
