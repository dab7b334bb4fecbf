"""Agents in the admin: edit them with validation, and try them."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant.admin import readiness
from assistant.admin.conversations import READ_PERMISSIONS, change_url
from assistant.admin.forms import AgentForm
from assistant.models import Agent
from wire.admin import missing_permissions


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):
    """Agents, with a form that says what is wrong with one before its first caller does."""

    form = AgentForm
    list_display = ["id", "display_name", "model_name", "problem", "is_public", "is_enabled"]
    list_filter = ["is_enabled", "is_public"]
    search_fields = ["id", "name", "description"]
    fieldsets = (
        (None, {"fields": ["id", "name", "description", "is_enabled"]}),
        ("Model and tools", {"fields": ["model", "instructions", "tools", "temperature"]}),
        ("Limits", {"fields": ["max_output_tokens", "max_input_tokens", "max_tool_rounds"]}),
        ("Access", {"fields": ["is_public", "groups"]}),
    )

    class Media:
        css = {"all": ["assistant/admin.css"]}

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        return ["id"] if obj else []

    def save_model(self, request: HttpRequest, obj: Agent, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if {"model", "tools"}.isdisjoint(form.changed_data) or readiness.problems(obj):
            return  # nothing to ask the model's server, or the page shows the problem anyway
        for warning in readiness.warnings(obj):
            self.message_user(request, warning, messages.WARNING)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        agent: Agent | None = context.get("original")
        if agent:
            context |= {
                "faults": readiness.problems(agent),
                "api": api_root(),
                "refusal": refusal_reason(agent, request.user),
                "conversation_page": change_url("CONVERSATION-ID") if request.user.has_perms(READ_PERMISSIONS) else "",
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Count the answers that protect an agent instead of listing them: there may be very many."""
        agents = list(objs)
        answers = {agent: agent.messages.count() for agent in agents}
        protected = [f"{agent}: {count:,} answers. Disable it instead." for agent, count in answers.items() if count]
        return [str(agent) for agent in agents], {"agents": len(agents)}, missing_permissions(self, request), protected

    @admin.display(description="name", ordering="name")
    def display_name(self, agent: Agent) -> SafeString:
        return format_html("<bdi>{}</bdi>", agent.name)

    @admin.display(description="model")
    def model_name(self, agent: Agent) -> SafeString:
        return format_html("<bdi>{}</bdi>", agent.model_name)

    @admin.display(description="problems", empty_value="")
    def problem(self, agent: Agent) -> SafeString | str:
        return format_html('<span class="assistant-wrong">{}</span>', " ".join(readiness.problems(agent)))


def api_root() -> str | None:
    """Return the prefix of the API, None if the project doesn't include it."""
    try:
        return reverse("assistant:chat").removesuffix("agent/chat")
    except NoReverseMatch:
        return None


def refusal_reason(agent: Agent, user: Any) -> str | None:
    """Return why the user can't ask the agent, None if they can."""
    if not agent.is_enabled:
        return "This agent is disabled: enable it to ask it."
    if Agent.objects.find(agent.pk, user) is None:
        return "Only members of its groups can ask this agent, and you aren't in one."
    return None
