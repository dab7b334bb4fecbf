"""The endpoints of one message: its state, the stream of its answer, and its end."""

from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils.decorators import method_decorator
from rest_framework.request import Request
from rest_framework.response import Response

from assistant.answers.answer import Answer, answer_of
from assistant.api.base import ChatScopedView
from assistant.api.serializers import MessageSerializer
from assistant.api.streams import EVENT_STREAM, AnswerStream, refuse_without_streams, stream_answer
from assistant.cluster import leases
from assistant.errors import Conflict, NotFound
from assistant.models import Message
from wire.api.openapi import OpenApiParameter, extend_schema, fails
from wire.api.sse import read_cursor
from wire.asgi.threads import leave_connections


class MessageView(ChatScopedView):
    @extend_schema(operation_id="message", responses={200: MessageSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, message_id: str) -> Response:
        """One answer: its status, its text so far, usage, timing."""
        answer = visible_answer(request, message_id)
        return Response(MessageSerializer(async_to_sync(answer.so_far)()).data)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class MessageStreamView(ChatScopedView):
    @extend_schema(
        operation_id="message_stream",
        parameters=[
            OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER, description="The last event you have."),
            OpenApiParameter("after", int, description="The same, in the query; it wins."),
        ],
        responses={(200, "text/event-stream"): EVENT_STREAM, **fails(401, 403, 404, 409)},
    )
    def get(self, request: Request, message_id: str) -> AnswerStream:
        """The events after the last one that the client has, live or finished."""
        refuse_without_streams(request)
        answer = visible_answer(request, message_id)
        leave_connections()
        cursor = read_cursor(request.query_params.get("after") or request.headers.get("Last-Event-ID"))
        return stream_answer(request, answer, cursor)


class MessageStopView(ChatScopedView):
    @extend_schema(
        operation_id="message_stop", request=None, responses={200: MessageSerializer, **fails(401, 403, 404, 409)}
    )
    def post(self, request: Request, message_id: str) -> Response:
        """End an answer with its text so far; one that has ended doesn't change."""
        answer = visible_answer(request, message_id)
        message = async_to_sync(answer.stop)()
        if not message.has_ended:
            raise Conflict("The answer is being written by another process, which can't be told to stop.")
        return Response(MessageSerializer(message).data)


def visible_answer(request: Request, message_id: str) -> Answer:
    """Return the answer to a message of the caller's. Raises `NotFound`."""
    mine = Message.objects.for_caller(request.user).filter(pk=message_id)
    message = mine.first()
    if message and not message.has_ended and leases.interrupt(mine):
        message = mine.first()
    if message is None:
        raise NotFound("There is no such message.")
    return answer_of(message)
