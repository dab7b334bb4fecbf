"""The admin: agents to edit and try, conversations to read, documents to add and to look up.

`answer_admin` has the list of answers, `key_admin` the keys.
"""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, URLResolver, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant import answer_admin, key_admin, readiness, uploads  # noqa: F401  # importing registers
from assistant.forms import AddForm, AgentForm
from assistant.lookup import Lookup, look_up
from assistant.models import Agent, Conversation, Document, Message
from assistant.retelling import Retelling
from assistant.search import MAX_QUERY_CHARS
from wire.conf import read
from wire.limits import Limits

# A conversation's title is the first words of what was asked.
READ = ("assistant.view_conversation", "assistant.view_message")

TURNS_A_PAGE = 50
# What a form has beside its files: its other fields, and the parts' headers.
FORM_BYTES = 65_536


class ReadOnly:
    """What is recorded is read, not edited."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


# Agents.


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):
    form = AgentForm
    list_display = ["id", "display_name", "model_name", "problem", "is_public", "is_enabled"]
    list_filter = ["is_enabled", "is_public"]
    search_fields = ["id", "name", "description"]
    fieldsets = (
        (None, {"fields": ["id", "name", "description", "is_enabled"]}),
        ("How it answers", {"fields": ["model", "instructions", "tools", "temperature"]}),
        ("Limits", {"fields": ["max_output_tokens", "max_input_tokens", "max_tool_rounds"]}),
        ("Who may use it", {"fields": ["is_public", "groups"]}),
    )

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        return ["id"] if obj else []

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if {"model", "tools"}.isdisjoint(form.changed_data) or readiness.faults(obj):
            return  # nothing to ask the model's server about, or the page says what is wrong anyway
        for doubt in readiness.doubts(obj):
            self.message_user(request, doubt, messages.WARNING)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        agent: Agent | None = context.get("original")
        if agent:
            context |= {
                "faults": readiness.faults(agent),
                "api": api_root(),
                "refusal": refusal(agent, request.user),
                "conversation_page": page_of("CONVERSATION-ID") if request.user.has_perms(READ) else "",
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the answers that keep an agent instead of listing them: there may be very many."""
        agents = list(objs)
        answers = {agent: agent.messages.count() for agent in agents}
        protected = [f"{agent}: {count:,} answers. Disable it instead." for agent, count in answers.items() if count]
        lacking = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return [str(agent) for agent in agents], {"agents": len(agents)}, lacking, protected

    @admin.display(description="name", ordering="name")
    def display_name(self, agent: Agent) -> SafeString:
        return format_html("<bdi>{}</bdi>", agent.name)

    @admin.display(description="model")
    def model_name(self, agent: Agent) -> SafeString:
        return format_html("<bdi>{}</bdi>", agent.model_name)

    @admin.display(description="what is wrong", empty_value="")
    def problem(self, agent: Agent) -> SafeString | str:
        return format_html('<span class="assistant-wrong">{}</span>', " ".join(readiness.faults(agent)))


def api_root() -> str | None:
    """Return where a project has put the API, None where it has none."""
    try:
        return reverse("assistant:chat").removesuffix("agent/chat")
    except NoReverseMatch:
        return None


def refusal(agent: Agent, user: Any) -> str | None:
    """Return why the user, as a caller like any other, can't ask the agent."""
    if not agent.is_enabled:
        return "It is switched off: nobody can ask it."
    if Agent.objects.named(agent.pk, user) is None:
        return "It is for groups that you aren't in, so you can't ask it."
    return None


# Conversations.


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
    list_display = ["name", "caller", "agent_name", "turns", "updated_at"]
    list_filter = [EndingFilter, "agent"]
    list_select_related = ["owner", "agent"]
    search_fields = ["title"]  # that there is a search; get_search_results says what for
    search_help_text = "The id of a conversation or a message, an owner's name, or words that were said."
    date_hierarchy = "updated_at"
    fields = [("caller", "agent_name"), ("created_at", "updated_at"), "id"]
    readonly_fields = ["caller", "agent_name"]
    show_full_result_count = False

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def has_view_permission(self, request: HttpRequest, obj: Conversation | None = None) -> bool:
        return request.user.has_perms(READ)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        # Not a join: that would count the turns of all conversations to show a page of them.
        own = Message.objects.filter(conversation=OuterRef("pk")).order_by().values("conversation")
        counted = Subquery(own.annotate(count=Count("pk")).values("count"))
        return conversations.annotate(turn_count=Coalesce(counted, 0))

    def get_search_results(
        self, request: HttpRequest, conversations: QuerySet[Conversation], term: str
    ) -> tuple[QuerySet[Conversation], bool]:
        """Look for what has this name; if nothing has, for what was said."""
        term = term.strip()
        if not term:
            return conversations, False
        users = get_user_model()
        owners = users._default_manager.filter(**{users.USERNAME_FIELD: term})
        of_message = Message.objects.filter(pk=term).values("conversation")
        named = conversations.filter(Q(pk=term) | Q(pk__in=of_message) | Q(owner__in=owners.values("pk")))
        return (
            named if named.exists() else conversations.filter(pk__in=Conversation.objects.saying(term).values("pk"))
        ), False

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the messages instead of reading and listing them."""
        conversations = list(objs)
        lines = [f"{each} and its messages" for each in conversations]
        count = Message.objects.filter(conversation__in=conversations).count()
        counts = {"conversations": len(conversations), "messages": count}
        lacking = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return lines, counts, lacking, []

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        turns = context["original"].messages.select_related("agent")
        page = Paginator(turns, TURNS_A_PAGE).get_page(request.GET.get("turns"))
        context |= {"page": page, "turns": [Retelling(message) for message in page]}
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


def page_of(conversation_id: str) -> str:
    return reverse("admin:assistant_conversation_change", args=[quote(conversation_id)])


# Documents.


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["name", "source", "updated_at"]
    search_fields = ["title", "source"]
    show_full_result_count = False

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]  # a list of both in truth
        lookup = self.admin_site.admin_view(self.lookup_view)
        return [path("lookup/", lookup, name="assistant_document_lookup"), *super().get_urls()]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        most_bytes = read(Limits).body(request.path) - FORM_BYTES
        if request.method == "POST":
            form = AddForm(request.POST, request.FILES, most_bytes=most_bytes)
            if form.is_valid() and (stored := self.stored(request, form)):
                self.message_user(request, f"Added {spoken(stored)}.", messages.SUCCESS)
                return HttpResponseRedirect(reverse("admin:assistant_document_changelist"))
        else:
            form = AddForm(most_bytes=most_bytes)
        adminform = AdminForm(form, form.FIELDSETS, {}, model_admin=self)  # type: ignore[arg-type]  # any form will do
        context = {**self.page(request, "Add documents"), "adminform": adminform, "form": form}
        return TemplateResponse(request, "admin/assistant/document/add.html", context)

    def stored(self, request: HttpRequest, form: AddForm) -> uploads.Stored | None:
        try:
            stored = form.put()
        except uploads.Refused as refused:
            form.add_error(None, ValidationError(refused.shown))
            return None
        names = ", ".join(file.name or "" for file in form.cleaned_data["uploaded"]) or form.cleaned_data["title"]
        LogEntry.objects.create(
            user=request.user,  # type: ignore[misc]  # who comes here has signed in
            content_type=ContentType.objects.get_for_model(Document),
            object_repr=names[:200],
            action_flag=ADDITION,
            change_message=f"Added {spoken(stored)}.",
        )
        return stored

    def lookup_view(self, request: HttpRequest) -> TemplateResponse:
        """Show what a query finds and why."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        query = request.GET.get("q", "").strip()
        context = {**self.page(request, "What a query finds"), "query": query, "most_chars": MAX_QUERY_CHARS}
        try:
            lookup: Lookup | None = look_up(query) if query else None
            context |= {"lookup": lookup, "may_change": self.has_change_permission(request)}
        except ImproperlyConfigured as error:
            context["fault"] = str(error)
        return TemplateResponse(request, "admin/assistant/document/lookup.html", context)

    def page(self, request: HttpRequest, title: str) -> dict[str, Any]:
        """Return what a page beside the admin's own needs."""
        return {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "media": self.media}

    @admin.display(description="title", ordering="title")
    def name(self, document: Document) -> SafeString:
        return format_html("<bdi>{}</bdi>", document.title)


def spoken(stored: uploads.Stored) -> str:
    cut = f" as {stored.passages:,} passages" if stored.passages > stored.documents else ""
    replaced = f", {stored.replaced:,} in place of what was there" if stored.replaced else ""
    return f"{stored.documents:,} document{'s' * (stored.documents != 1)}{cut}{replaced}"
