"""Batches over HTTP: parse, one call, respond. Those that nobody waits for are in `background`."""

import json
import time
from functools import partial
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from batching.api import streams
from batching.api.background_views import ACCEPTED, IN_BACKGROUND, LinesParser, accept, is_lines
from batching.api.base import BatchingView, BatchParser, found, rules_of
from batching.api.serializers import (
    BackgroundBatchSerializer,
    BatchDetailSerializer,
    BatchRequestSerializer,
    BatchSerializer,
    EnvelopeSerializer,
)
from batching.conf import BatchingSettings, get_settings
from batching.errors import NotNDJSON, SwitchedOff
from batching.items import parse
from batching.items.request_factory import RequestFactory, factory_of
from batching.models import Batch
from batching.run import submission
from batching.run.execution import Execution, Terms
from batching.run.outbox import Outbox
from batching.run.submission import Submission
from wire.api.openapi import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    OpenApiTypes,
    event_stream,
    extend_schema,
    fails,
)
from wire.api.requests import flag, idempotency_key
from wire.api.rest import Pages
from wire.asgi import draining
from wire.asgi.threads import give_connections_back
from wire.observe.request_id import request_id

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


class NewestFirst(Pages):
    ordering = ("-created_at", "-id")


class BatchesView(BatchingView, ListAPIView[Batch]):
    """The caller's batches, the newest first, paged."""

    parser_classes = [BatchParser, LinesParser]
    queryset = Batch.objects.none()
    serializer_class = BatchSerializer
    pagination_class = NewestFirst
    filter_backends = []

    @extend_schema(operation_id="batches", responses={200: BatchSerializer(many=True), **fails(400, 401, 403)})
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
        origin = factory_of(request._request)
        terms = terms_of(settings, origin, began)
        ask = asked(request, terms)
        begun = submission.begin(ask, settings)
        if isinstance(begun, Batch):
            return replay(begun, media_type)
        execution = partial(
            Execution,
            ask.items,
            batch_id=begun.batch.pk,
            origin=origin,
            terms=terms,
            request_id=ask.request_id,
        )
        if media_type:
            # What follows takes long and needs no connection.
            give_connections_back()
            outbox = Outbox()
            stream = streams.BatchStream(execution(outbox=outbox), outbox, begun, media_type)
            return streams.live(stream, media_type, in_server=origin.in_server)
        submission.answer(execution(), begun, in_server=origin.in_server)
        return as_json(submission.envelope(begun))


class BatchView(BatchingView):
    @extend_schema(operation_id="batch_detail", responses={200: BatchDetailSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, batch_id: str) -> Response:
        """One batch with its items, what was asked and what was answered; in the background, with live counts only."""
        batch = found(request, batch_id)
        kind = BackgroundBatchSerializer if batch.is_background else BatchDetailSerializer
        return Response(kind(batch).data)


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


def terms_of(settings: BatchingSettings, origin: RequestFactory, began: float) -> Terms:
    return Terms(
        began=began,
        timeout=settings.BATCH_TIMEOUT,
        concurrency=settings.BATCH_CONCURRENCY,
        max_chars=settings.BATCH_MAX_BYTES,
        rules=rules_of(settings, origin, settings.BATCH_MAX_SIZE),
    )


def prefers_async(request: Request) -> bool:
    """Tell whether the client wants to be answered before its batch is (RFC 7240)."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    return "respond-async" in (one.partition(";")[0].strip() for one in preferences)


def refuse_terms(request: Request) -> None:
    """Refuse what only a background batch heeds, where one is not asked for. Raises `ValidationError`."""
    if said := {one.name for one in IN_BACKGROUND} & request.query_params.keys():
        sentence = "This is for batches in the background (Prefer: respond-async)."
        raise ValidationError({name: [sentence] for name in said})


def asked(request: Request, terms: Terms) -> Submission:
    current = request_id.get()
    return Submission(
        caller=request.user,
        data=request.data,
        items=parse.read(request.data, terms.rules),
        began=terms.began,
        idempotency_key=idempotency_key(request),
        request_id="" if current == "-" else current,
        client_address=request.META.get("REMOTE_ADDR") or "",
    )


# From a batch to a response.


def replay(batch: Batch, media_type: str | None) -> HttpResponse:
    response = streams.replayed(batch, media_type) if media_type else as_json(submission.stored_envelope(batch))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def as_json(content: dict[str, Any]) -> HttpResponse:
    """Render what items were answered with as it is: DRF's renderer refuses half of a surrogate pair."""
    return HttpResponse(json.dumps(content), content_type="application/json")
