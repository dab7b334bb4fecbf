"""The HTTP API: parse, one call, respond."""

import time
import weakref
from typing import Any, cast

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from django.db import transaction
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.utils.http import content_disposition_header
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from assistant.answers import turns
from assistant.answers.reading import events_after, make_ready, whole
from assistant.answers.run import Run
from assistant.api.export import as_markdown
from assistant.api.fields import StrictCharField
from assistant.api.serializers import (
    AgentListSerializer,
    AgentSerializer,
    AnswerSerializer,
    ChatSerializer,
    ConversationDetailSerializer,
    ConversationSerializer,
    ExecuteSerializer,
    ExecutionSerializer,
    MessageSerializer,
    RenameSerializer,
    ToolListSerializer,
    ToolSerializer,
    represent_live,
)
from assistant.cluster import leases, sharing
from assistant.conf import get_settings
from assistant.errors import AssistantError, Conflict, NotFound
from assistant.models import Agent, APIKey, Conversation, Message
from assistant.tools import toolbox
from wire.api.openapi import OpenApiParameter, OpenApiTypes, event_stream, extend_schema, fails
from wire.api.requests import client_address, flag, idempotency_key
from wire.api.rest import Pages
from wire.api.sse import NO_SCOPE, EventStreamResponse, NoStream, can_stream, frames, pusher, read_cursor
from wire.api.views import JSONView
from wire.asgi import draining
from wire.asgi.threads import give_connections_back, leave_connections

ON_DISCONNECT = ("grace", "cancel", "continue")
EXTENSIONS = {"markdown": "md", "json": "json"}
EXPORTS = tuple(EXTENSIONS)
SEARCH_MAX_CHARS = 100


EVENT_STREAM = event_stream("Events, each an `id:` line and a `data:` line with a JSON object.")


# What an API key that has scopes may call. No docstrings: the OpenAPI description would tell them of each view.


class ChatScopedView(JSONView):
    required_scopes = ["chat"]


class ToolsScopedView(JSONView):
    required_scopes = ["tools"]


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
    def post(self, request: Request) -> Response | EventStreamResponse:
        began = time.monotonic()
        body = valid(ChatSerializer, request.data)
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
            on_disconnect=cast(turns.OnDisconnect, choice(request, "on_disconnect", ON_DISCONNECT)),
        )
        with turns.beginning(ask) as turn:
            if streamed:
                leave_connections()
                return AnswerStream(request, turn, 0)
            give_connections_back()
            return Response(AnswerSerializer(succeeded(async_to_sync(whole)(turn))).data)


class MessageView(ChatScopedView):
    @extend_schema(operation_id="message", responses={200: MessageSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, message_id: str) -> Response:
        """One answer: its status, its text so far, usage, timing."""
        turn = turns.joined(visible_message(request, message_id))
        if isinstance(turn, Run):
            return Response(represent_live(turn))
        return Response(MessageSerializer(async_to_sync(sharing.so_far)(turn)).data)


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
    def get(self, request: Request, message_id: str) -> EventStreamResponse:
        """The events after the last one that the client has, live or finished."""
        refuse_without_streams(request)
        turn = turns.joined(visible_message(request, message_id))
        leave_connections()
        cursor = read_cursor(request.query_params.get("after") or request.headers.get("Last-Event-ID"))
        return AnswerStream(request, turn, cursor)


class MessageStopView(ChatScopedView):
    @extend_schema(
        operation_id="message_stop", request=None, responses={200: MessageSerializer, **fails(401, 403, 404, 409)}
    )
    def post(self, request: Request, message_id: str) -> Response:
        """End an answer with what was said so far; of one that has ended nothing changes."""
        turn = turns.joined(visible_message(request, message_id))
        message = async_to_sync(stopped)(turn)
        if not message.has_ended:
            raise Conflict("The answer is being written by another process, which can't be told to stop.")
        return Response(MessageSerializer(message).data)


class AgentsView(ChatScopedView):
    @extend_schema(operation_id="agents", responses={200: AgentListSerializer, **fails(401, 403)})
    def get(self, request: Request) -> Response:
        """The agents that the caller may use."""
        agents = Agent.objects.for_caller(request.user)
        return Response({"agents": AgentSerializer(agents, many=True).data})


class NewestFirst(Pages):
    ordering = ("-updated_at", "-id")


class ConversationsView(ChatScopedView, ListAPIView[Conversation]):
    """The caller's conversations, the newest first, paged."""

    queryset = Conversation.objects.none()
    serializer_class = ConversationSerializer
    pagination_class = NewestFirst
    filter_backends = []

    @extend_schema(
        operation_id="conversations",
        parameters=[OpenApiParameter("q", str, description="Only those that have each of these words in them.")],
        responses={200: ConversationSerializer(many=True), **fails(400, 401, 403)},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> Any:
        return Conversation.objects.listed_for(self.request.user).saying(searched(self.request))


class ConversationView(ChatScopedView):
    @extend_schema(operation_id="conversation", responses={200: ConversationDetailSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, conversation_id: str) -> Response:
        """One conversation with its messages."""
        return Response(ConversationDetailSerializer(visible_conversation(request, conversation_id)).data)

    @extend_schema(
        operation_id="conversation_rename",
        request=RenameSerializer,
        responses={200: ConversationSerializer, **fails(400, 401, 403, 404, 413, 415)},
    )
    def patch(self, request: Request, conversation_id: str) -> Response:
        """Rename a conversation; its place in the list stays."""
        conversation = visible_conversation(request, conversation_id)
        conversation.rename(valid(RenameSerializer, request.data)["title"])
        return Response(ConversationSerializer(conversation).data)

    @extend_schema(operation_id="conversation_delete", responses={204: None, **fails(401, 403, 404)})
    def delete(self, request: Request, conversation_id: str) -> Response:
        """Delete a conversation with its messages; an answer that is being written ends."""
        conversation = visible_conversation(request, conversation_id)
        for message in conversation.messages.filter(status=Message.Status.RUNNING):
            async_to_sync(stopped)(turns.joined(message))
        conversation.delete()
        return Response(status=204)


class ConversationExportView(ChatScopedView):
    @extend_schema(
        operation_id="conversation_export",
        parameters=[OpenApiParameter("format", str, enum=EXPORTS, description="markdown, unless it says json.")],
        responses={
            (200, "text/markdown"): OpenApiTypes.STR,
            (200, "application/json"): ConversationDetailSerializer,
            **fails(400, 401, 403, 404),
        },
    )
    def get(self, request: Request, conversation_id: str) -> HttpResponse:
        """One conversation with its messages, as a file to keep."""
        wanted = choice(request, "format", EXPORTS)
        conversation = visible_conversation(request, conversation_id)
        if wanted == "json":
            response: HttpResponse = Response(ConversationDetailSerializer(conversation).data)
        else:
            response = HttpResponse(as_markdown(conversation), content_type="text/markdown; charset=utf-8")
        filename = f"{conversation.file_name}.{EXTENSIONS[wanted]}"
        response["Content-Disposition"] = content_disposition_header(True, filename)
        return response


class ToolsView(ToolsScopedView):
    @extend_schema(operation_id="tools", responses={200: ToolListSerializer, **fails(401, 403)})
    def get(self, request: Request) -> Response:
        """The tools that the caller may use."""
        return Response({"tools": [described(tool) for tool in toolbox.for_caller(request.user)]})


class ToolView(ToolsScopedView):
    @extend_schema(operation_id="tool", responses={200: ToolSerializer, **fails(401, 403, 404)})
    def get(self, request: Request, name: str) -> Response:
        """One tool that the caller may use."""
        return Response(described(toolbox.get(name, request.user)))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ExecuteView(ToolsScopedView):
    @extend_schema(
        operation_id="tool_execute",
        request=ExecuteSerializer,
        responses={200: ExecutionSerializer, **fails(400, 401, 403, 404, 413, 415, 502, 504)},
    )
    def post(self, request: Request, name: str) -> Response:
        """Run a tool."""
        began = time.monotonic()
        tool = toolbox.get(name, request.user)
        parameters = valid(ExecuteSerializer, request.data)["parameters"]
        give_connections_back()
        output = async_to_sync(tool.run)(parameters)
        return Response(
            {
                "tool": tool.name,
                "result": output.text,
                "data": output.data,
                "processing_time": round(time.monotonic() - began, 6),
            }
        )


# What a request says.


def valid(serializer: Any, data: Any) -> dict[str, Any]:
    """Return a body as the serializer has it.

    Raises DRF's `ValidationError`, also for a field that isn't known: a misspelt one would be passed over in silence.
    """
    if not isinstance(data, dict):
        raise ValidationError({"body": ["This has to be a JSON object."]})
    checked = serializer(data=data)
    unknown = {name: ["This field isn't known."] for name in data if name not in checked.fields}
    if not checked.is_valid() or unknown:
        raise ValidationError({**checked.errors, **unknown})
    return cast(dict[str, Any], checked.validated_data)


def wants_stream(request: Request, body: dict[str, Any]) -> bool:
    asked = flag(request, "stream")
    return bool(body.get("stream")) if asked is None else asked


def choice(request: Request, name: str, choices: tuple[str, ...]) -> str:
    value = request.query_params.get(name, choices[0])
    if value not in choices:
        raise ValidationError({name: [f"This has to be one of {', '.join(choices)}."]})
    return value


def searched(request: Request) -> str:
    """Return the words that a list is to be searched for. Raises `ValidationError`."""
    field = StrictCharField(allow_blank=True, max_length=SEARCH_MAX_CHARS)
    try:
        return str(field.run_validation(request.query_params.get("q", "")))
    except ValidationError as error:
        raise ValidationError({"q": error.detail}) from None


def refuse_without_streams(request: Request) -> None:
    draining.refuse()
    if not get_settings().STREAM_ENABLED:
        raise PermissionDenied("Streaming is switched off here (STREAM_ENABLED=false). Chat without it works.")
    if not can_stream.get():
        raise NoStream
    if not isinstance(request._request, ASGIRequest):
        raise PermissionDenied("This server can't stream: it runs WSGI. Chat without streaming works.")


# What the caller may see.


def visible_message(request: Request, message_id: str) -> Message:
    mine = Message.objects.for_caller(request.user).filter(pk=message_id)
    message = mine.first()
    if message and message.status == Message.Status.RUNNING and leases.interrupt(mine):
        message = mine.first()
    if message is None:
        raise NotFound("There is no such message.")
    return message


def visible_conversation(request: Request, conversation_id: str) -> Conversation:
    mine = Conversation.objects.for_caller(request.user).prefetch_related("messages")
    if conversation := mine.filter(pk=conversation_id).first():
        return conversation
    raise NotFound("There is no such conversation.")


def described(tool: toolbox.Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


# From a turn to a response.


class AnswerStream(EventStreamResponse):
    """The events of a turn after `cursor`. Raises `Conflict` where they can't be read here."""

    def __init__(self, request: Request, turn: Run | Message, cursor: int) -> None:
        async_to_sync(make_ready)(turn)
        scope = getattr(request._request, "scope", NO_SCOPE)
        parts = frames(events_after(turn, cursor, pusher(scope)))
        super().__init__(parts, scope)
        self.turn, self.cursor = turn, cursor
        if isinstance(turn, Run):
            # Where the client left before the response began, it never starts, and nobody closes it.
            weakref.finalize(parts, turn.unread)

    @property
    def message_id(self) -> str:
        return (self.turn.message if isinstance(self.turn, Run) else self.turn).id


async def stopped(turn: Run | Message) -> Message:
    """Return the message with its answer ended; one in a process that can't be reached goes on."""
    if isinstance(turn, Message):
        return await sharing.stop(turn) if sharing.is_on() and not turn.has_ended else turn
    await make_ready(turn)
    turn.stop()
    return await turn.wait()


def succeeded(message: Message) -> Message:
    """Return an answer that ended well; raise what went wrong with another."""
    if message.error:
        failure = AssistantError(message.error["message"], retry_after=message.error.get("retry_after"))
        failure.status = message.error["code"]
        raise failure
    return message
