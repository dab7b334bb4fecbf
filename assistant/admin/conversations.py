"""Conversations in the admin, shown as such."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant.admin.transcript import TurnTranscript
from assistant.models import Conversation, Message
from wire.admin import ReadOnly, missing_permissions, users_named

# Both, because a conversation's title quotes its first message.
READ_PERMISSIONS = ("assistant.view_conversation", "assistant.view_message")

TURNS_A_PAGE = 50


class EndingFilter(admin.SimpleListFilter):
    title = "answers that"
    parameter_name = "ending"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "failed"), ("interrupted", "were interrupted"), ("running", "are being written")]

    def queryset(self, request: HttpRequest, conversations: QuerySet[Conversation]) -> QuerySet[Conversation]:
        value = self.value()
        if value not in {"failed", "interrupted", "running"}:
            return conversations
        return conversations.filter(Exists(Message.objects.filter(conversation=OuterRef("pk"), status=value)))


@admin.register(Conversation)
class ConversationAdmin(ReadOnly, admin.ModelAdmin):
    """Conversations, to read and to delete."""

    list_display = ["name", "caller", "agent_name", "turns", "updated_at"]
    list_filter = [EndingFilter, "agent"]
    list_select_related = ["owner", "agent"]
    search_fields = ["title"]  # enables the search; get_search_results implements it
    search_help_text = "The id of a conversation or message, an owner's name, or words of the messages."
    date_hierarchy = "updated_at"
    fields = [("caller", "agent_name"), ("created_at", "updated_at"), "id"]
    readonly_fields = ["caller", "agent_name"]
    show_full_result_count = False

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def has_view_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        return request.user.has_perms(READ_PERMISSIONS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        # A join would count the turns of all conversations to show a page of them.
        own = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        counted = Subquery(own.annotate(count=Count("pk")).values("count"))
        return conversations.annotate(turn_count=Coalesce(counted, 0))

    def get_search_results(
        self, request: HttpRequest, conversations: QuerySet[Conversation], term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        """Find conversations by id or owner; if there are none, by words of their messages."""
        term = term.strip()
        if not term:
            return conversations, False
        of_message = Message.objects.filter(pk=term).values("conversation")
        named = conversations.filter(Q(pk=term) | Q(pk__in=of_message) | Q(owner__in=users_named(term)))
        return (
            named if named.exists() else conversations.filter(pk__in=Conversation.objects.matching(term).values("pk"))
        ), False

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the messages instead of reading and listing them."""
        conversations = list(objs)
        lines = [f"{each} and its messages" for each in conversations]
        count = Message.objects.filter(conversation__in=conversations).count()
        counts = {"conversations": len(conversations), "messages": count}
        return lines, counts, missing_permissions(self, request), []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        turns = context["original"].messages.select_related("agent")
        page = Paginator(turns, TURNS_A_PAGE).get_page(request.GET.get("turns"))
        context |= {"page": page, "turns": [TurnTranscript(message) for message in page]}
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description="conversation", ordering="title")
    def name(self, conversation: Conversation) -> SafeString:
        return format_html("<bdi>{}</bdi>", conversation)

    @admin.display(description="owner", ordering="owner_id")
    def caller(self, conversation: Conversation) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", conversation.owner) if conversation.owner else "anonymous"

    @admin.display(description="agent", ordering="agent_id")
    def agent_name(self, conversation: Conversation) -> SafeString:
        return format_html("<bdi>{}</bdi>", conversation.agent)

    @admin.display(ordering="turn_count")
    def turns(self, conversation: Conversation) -> int:
        return conversation.turn_count  # type: ignore[attr-defined,no-any-return]  # annotated above


def change_url(conversation_id: str) -> str:
    return reverse("admin:assistant_conversation_change", args=[quote(conversation_id)])
