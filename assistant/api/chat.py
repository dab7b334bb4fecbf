"""The endpoint that asks an agent."""

import time
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.request import Request
from rest_framework.response import Response

from assistant.answers import turns
from assistant.api.base import ChatScopedView, validate
from assistant.api.serializers import AnswerSerializer, ChatSerializer
from assistant.api.streams import EVENT_STREAM, AnswerStream, refuse_without_streams, stream_answer
from assistant.errors import AssistantError
from assistant.models import APIKey, Message
from wire.api.idempotency import idempotency_key
from wire.api.openapi import OpenApiParameter, extend_schema, fails
from wire.api.requests import choice, client_address, flag
from wire.asgi.threads import give_connections_back, leave_connections

ON_DISCONNECT = ("grace", "cancel", "continue")


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ChatView(ChatScopedView):
    """Ask an agent."""

    # For throttles that count them; DRF's own `throttle_scope` would want a rate of every project.
    costs_tokens = True

    @extend_schema(
        operation_id="chat",
        request=ChatSerializer,
        parameters=[
            OpenApiParameter("stream", bool, description="Answer as server-sent events."),
            OpenApiParameter("on_disconnect", str, enum=ON_DISCONNECT, description="What to do when the client goes."),
            OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Same key, same answer."),
        ],
        responses={
            (200, "application/json"): AnswerSerializer,
            (200, "text/event-stream"): EVENT_STREAM,
            **fails(400, 401, 403, 404, 409, 413, 415, 422, 429, 502, 503, 504),
        },
    )
    def post(self, request: Request) -> Response | AnswerStream:
        began = time.monotonic()
        body = validate(ChatSerializer, request.data)
        streamed = wants_stream(request, body)
        if streamed:
            refuse_without_streams(request)
        ask = turns.TurnRequest(
            caller=request.user,
            text=body["message"],
            began=began,
            address=client_address(request),
            key=request.auth if isinstance(request.auth, APIKey) else None,
            agent_id=body.get("agent_id"),
            conversation_id=body.get("conversation_id"),
            idempotency_key=idempotency_key(request),
            on_disconnect=cast(turns.OnDisconnect, choice(request, "on_disconnect", ON_DISCONNECT, default="grace")),
        )
        with turns.beginning(ask) as answer:
            if streamed:
                leave_connections()
                return stream_answer(request, answer, cursor=0)
            give_connections_back()
            message = async_to_sync(answer.wait)()
            raise_failure(message)
            return Response(AnswerSerializer(message).data)


def wants_stream(request: Request, body: dict[str, Any]) -> bool:
    asked = flag(request, "stream")
    return bool(body.get("stream")) if asked is None else asked


def raise_failure(message: Message) -> None:
    """Raise the error of an answer that failed."""
    if message.error:
        failure = AssistantError(message.error["message"], retry_after=message.error.get("retry_after"))
        failure.status = message.error["code"]
        raise failure
