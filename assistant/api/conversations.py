"""The endpoints of conversations: list, read, rename, delete, export."""

import json
from collections.abc import Iterator
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.utils.http import content_disposition_header
from rest_framework.exceptions import ValidationError
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from assistant.answers.answer import answer_of
from assistant.api.base import ChatScopedView, validate
from assistant.api.serializers import (
    ConversationDetailSerializer,
    ConversationSerializer,
    RenameSerializer,
    StrictCharField,
)
from assistant.errors import NotFound
from assistant.models import Agent, Conversation, Message
from wire.api.openapi import OpenApiParameter, OpenApiTypes, extend_schema, fails
from wire.api.pagination import NewestFirst
from wire.api.requests import choice

EXTENSIONS = {"markdown": "md", "json": "json"}
EXPORTS = tuple(EXTENSIONS)
SEARCH_MAX_CHARS = 100


class ConversationsView(ChatScopedView, ListAPIView[Conversation]):
    """The caller's conversations, the newest first, paged."""

    queryset = Conversation.objects.none()
    serializer_class = ConversationSerializer
    pagination_class = NewestFirst
    newest_by = "updated_at"
    filter_backends = []

    @extend_schema(
        operation_id="conversations",
        parameters=[OpenApiParameter("q", str, description="Only those that have each of these words in them.")],
        responses={200: ConversationSerializer(many=True), **fails(400, 401, 403)},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> Any:
        return Conversation.objects.listed_for(self.request.user).matching(search_text(self.request))


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
        conversation.rename(validate(RenameSerializer, request.data)["title"])
        return Response(ConversationSerializer(conversation).data)

    @extend_schema(operation_id="conversation_delete", responses={204: None, **fails(401, 403, 404)})
    def delete(self, request: Request, conversation_id: str) -> Response:
        """Delete a conversation with its messages; an answer that is being written ends."""
        conversation = visible_conversation(request, conversation_id)
        for message in conversation.messages.filter(status=Message.Status.RUNNING):
            async_to_sync(answer_of(message).stop)()
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
        wanted = choice(request, "format", EXPORTS, default="markdown")
        conversation = visible_conversation(request, conversation_id)
        if wanted == "json":
            response: HttpResponse = Response(ConversationDetailSerializer(conversation).data)
        else:
            response = HttpResponse(as_markdown(conversation), content_type="text/markdown; charset=utf-8")
        filename = f"{conversation.file_name}.{EXTENSIONS[wanted]}"
        response["Content-Disposition"] = content_disposition_header(True, filename)
        return response


def visible_conversation(request: Request, conversation_id: str) -> Conversation:
    mine = Conversation.objects.for_caller(request.user).prefetch_related("messages")
    if conversation := mine.filter(pk=conversation_id).first():
        return conversation
    raise NotFound("There is no such conversation.")


def search_text(request: Request) -> str:
    """Return the words to search the list for. Raises `ValidationError`."""
    field = StrictCharField(allow_blank=True, max_length=SEARCH_MAX_CHARS)
    try:
        return str(field.run_validation(request.query_params.get("q", "")))
    except ValidationError as error:
        raise ValidationError({"q": error.detail}) from None


# The export.


def as_markdown(conversation: Conversation) -> str:
    """Return the prompts and the answers with their tool calls, and how an answer ended that failed."""
    return "\n\n".join([f"# {conversation}", *sections(conversation)]) + "\n"


def sections(conversation: Conversation) -> Iterator[str]:
    names = dict(Agent.objects.filter(messages__conversation=conversation).values_list("pk", "name"))
    for message in conversation.messages.all():
        yield f"## You, {message.created_at:%Y-%m-%d %H:%M} UTC"
        yield message.prompt
        yield f"## {names[message.agent_id]}"
        yield from map(render_call, message.tool_calls)
        if message.text:
            yield message.text
        if message.status != Message.Status.COMPLETED:
            yield f"*{ending_text(message)}*"


def render_call(call: dict[str, Any]) -> str:
    # On one line, where no code fence can end.
    parameters = json.dumps(call["parameters"], ensure_ascii=False)
    return f"Tool `{call['name']}`:\n\n```json\n{parameters}\n```"


def ending_text(message: Message) -> str:
    return message.error["message"] if message.error else f"{message.get_status_display()}."
