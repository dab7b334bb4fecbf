"""Agents in the admin: edited with checks that say what is wrong, and tried."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant.admin import readiness
from assistant.admin.conversations import READ, page_of
from assistant.admin.forms import AgentForm
from assistant.models import Agent


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):
    """Agents, with a form that says what is wrong with one before its first caller does."""

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
