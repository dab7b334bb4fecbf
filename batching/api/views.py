"""Batches over HTTP: parse, one call, respond. Background batches are in `background_views`."""

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
from batching.api.background_views import ACCEPTED, BACKGROUND_PARAMETERS, LinesParser, accept, is_lines
from batching.api.base import BatchingView, BatchParser, get_batch
from batching.api.serializers import (
    BackgroundBatchSerializer,
    BatchDetailSerializer,
    BatchRequestSerializer,
    BatchSerializer,
    EnvelopeSerializer,
)
from batching.conf import BatchingSettings, get_settings
from batching.errors import BackgroundOnly, BatchesDisabled
from batching.items import parse
from batching.items.request_factory import RequestFactory, factory_for, is_asgi
from batching.models import Batch
from batching.run import submission
from batching.run.event_queue import EventQueue
from batching.run.executor import BatchExecutor, ExecutionLimits
from batching.run.submission import Submission
from wire.api.idempotency import idempotency_key
from wire.api.openapi import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    OpenApiTypes,
    event_stream,
    extend_schema,
    fails,
)
from wire.api.pagination import NewestFirst
from wire.api.requests import flag
from wire.asgi import draining
from wire.asgi.threads import give_connections_back
from wire.observe.request_id import request_id

EVENT_STREAM = event_stream("`start`, `response` and `item` events, then `end` or `error`.")
REQUEST_EXAMPLE = OpenApiExample(
    "A batch whose second item refers to the first",
    request_only=True,
    value={
        "requests": [
            {"id": "found", "method": "GET", "path": "/api/books?title=Emma"},
            {"id": "read", "method": "GET", "path": "/api/books/{{found.body.results.0.id}}"},
        ]
    },
)
RESPONSE_EXAMPLE = OpenApiExample(
    "One item succeeded, one failed",
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


class BatchesView(BatchingView, ListAPIView[Batch]):
    """The caller's batches, the newest first, paged."""

    parser_classes = [BatchParser, LinesParser]
    queryset = Batch.objects.none()
    serializer_class = BatchSerializer
    pagination_class = NewestFirst
    newest_by = "created_at"
    filter_backends = []

    @classmethod
    def max_body_bytes(cls) -> int:
        settings = get_settings()
        return max(settings.BATCH_MAX_BYTES, settings.BATCH_ASYNC_MAX_BYTES)

    @extend_schema(operation_id="batches", responses={200: BatchSerializer(many=True), **fails(400, 401, 403)})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> Any:
        rows = Batch.objects.listed_for(self.request.user)
        rows.abandoned().interrupt()
        return rows

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
            *BACKGROUND_PARAMETERS,
            OpenApiParameter(
                "stream", bool, description="Respond with server-sent events, one for each item that ends."
            ),
            OpenApiParameter(
                "Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key gets the same response."
            ),
        ],
        responses={
            (200, "application/json"): EnvelopeSerializer,
            (200, streams.EVENTS): EVENT_STREAM,
            (200, streams.LINES): OpenApiResponse(OpenApiTypes.STR, "The same events, one per line."),
            202: ACCEPTED,
            **fails(400, 401, 403, 409, 413, 415, 422, 429, 503),
        },
        examples=[REQUEST_EXAMPLE, RESPONSE_EXAMPLE],
    )
    def post(self, request: Request) -> HttpResponseBase:
        """Execute requests side by side, each as if it had been sent alone."""
        began = time.monotonic()
        settings = get_settings()
        if not settings.BATCH_ENABLED:
            raise BatchesDisabled
        if prefers_async(request):
            return accept(request, settings)
        if is_lines(request):
            raise BackgroundOnly
        refuse_background_parameters(request)
        media_type = stream_media_type(request)
        if media_type:
            draining.refuse()
        factory = factory_for(request._request, settings.BATCH_ALLOWED_PATHS)
        limits = limits_from(settings, began)
        call = submission_from(request, factory, began, settings)
        record = submission.begin(call, settings)
        if isinstance(record, Batch):
            return replay(record, media_type)
        executor = partial(
            BatchExecutor,
            call.items,
            batch_id=record.batch.pk,
            factory=factory,
            limits=limits,
            request_id=call.request_id,
        )
        if media_type:
            # A stream takes long and needs no connection.
            give_connections_back()
            events = EventQueue()
            stream = streams.BatchStream(executor(events=events), events, record, media_type)
            return streams.live(stream, media_type, is_asgi=is_asgi(request._request))
        submission.execute(executor(), record, is_asgi=is_asgi(request._request))
        return as_json(submission.envelope(record))


class BatchView(BatchingView):
    @extend_schema(operation_id="batch_detail", responses={200: BatchDetailSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, batch_id: str) -> Response:
        """One batch with the requests and responses of its items; a background batch has live counts only."""
        batch = get_batch(request, batch_id)
        kind = BackgroundBatchSerializer if batch.is_background else BatchDetailSerializer
        return Response(kind(batch).data)


# Parameters of a request.


def stream_media_type(request: Request) -> str | None:
    """Return the media type of the stream that the client wants; None for one response at the end."""
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("Accept", "").split(",")]
    kinds = [kind for kind in accepted if kind in (*streams.ENCODINGS, "application/json", "*/*")]
    kind = kinds[0] if kinds and kinds[0] in streams.ENCODINGS else None
    wants_stream = flag(request, "stream")
    if wants_stream is None:
        return kind
    return (kind or streams.EVENTS) if wants_stream else None


def limits_from(settings: BatchingSettings, began: float) -> ExecutionLimits:
    return ExecutionLimits(
        began=began,
        timeout=settings.BATCH_TIMEOUT,
        concurrency=settings.BATCH_CONCURRENCY,
        max_chars=settings.BATCH_MAX_BYTES,
        max_bytes=settings.BATCH_ITEM_MAX_BYTES,
    )


def prefers_async(request: Request) -> bool:
    """Tell whether the client wants a response before its batch ends (RFC 7240)."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    return "respond-async" in (one.partition(";")[0].strip() for one in preferences)


def refuse_background_parameters(request: Request) -> None:
    """Refuse parameters that only a background batch has. Raises `ValidationError`."""
    if names := {one.name for one in BACKGROUND_PARAMETERS} & request.query_params.keys():
        sentence = "This is for background batches: send Prefer: respond-async as well."
        raise ValidationError({name: [sentence] for name in names})


def submission_from(request: Request, factory: RequestFactory, began: float, settings: BatchingSettings) -> Submission:
    current = request_id.get()
    return Submission(
        caller=request.user,
        data=request.data,
        items=parse.parse_batch(request.data, factory.allowed, max_size=settings.BATCH_MAX_SIZE),
        began=began,
        idempotency_key=idempotency_key(request),
        request_id="" if current == "-" else current,
        client_address=request.META.get("REMOTE_ADDR") or "",
    )


# From a batch to a response.


def replay(batch: Batch, media_type: str | None) -> HttpResponse:
    response = streams.replay(batch, media_type) if media_type else as_json(submission.stored_envelope(batch))
    response.headers["Idempotency-Replayed"] = "true"
    return response


def as_json(content: dict[str, Any]) -> HttpResponse:
    """Render the bodies of responses as they are: DRF's renderer refuses half of a surrogate pair."""
    return HttpResponse(json.dumps(content), content_type="application/json")
