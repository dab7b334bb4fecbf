"""The admin: agents to edit, conversations to read, documents to keep; `key_admin` has the keys."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from assistant import key_admin, toolbox  # noqa: F401  # importing registers
from assistant.models import Agent, Conversation, Document, Message
from assistant.providers import get_model


class ReadOnly:
    """What is recorded is read, not edited."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AgentForm(forms.ModelForm):
    """Says what is wrong with an agent before its first caller does."""

    tools = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="What the model may call while it answers."
    )

    class Meta:
        model = Agent
        fields = "__all__"  # noqa: DJ007  # an operator may edit all of it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = {tool.name: f"{tool.name}: {tool.description.splitlines()[0]}" for tool in toolbox.all_tools()}
        kept = {name: f"{name} (not installed, or switched off)" for name in self.instance.tools if name not in known}
        self.fields["tools"].choices = [*known.items(), *kept.items()]  # type: ignore[attr-defined]  # of the field

    def clean_model(self) -> str:
        name: str = self.cleaned_data["model"]
        if name:
            try:
                get_model(name)
            except ImproperlyConfigured as error:
                raise ValidationError(str(error)) from None
        return name

    def clean_tools(self) -> list[str]:
        chosen: list[str] = self.cleaned_data["tools"]
        known = {tool.name for tool in toolbox.all_tools()}
        if unknown := [name for name in chosen if name not in known]:
            raise ValidationError(f"These tools are not installed, or switched off: {', '.join(unknown)}.")
        return chosen


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):
    form = AgentForm
    list_display = ["id", "name", "model_name", "is_public", "is_enabled"]
    list_filter = ["is_enabled", "is_public"]
    search_fields = ["id", "name", "description"]
    filter_horizontal = ["groups"]
    fieldsets = (
        (None, {"fields": ["id", "name", "description", "is_enabled"]}),
        ("How it answers", {"fields": ["model", "instructions", "tools", "temperature"]}),
        ("Limits", {"fields": ["max_output_tokens", "max_input_tokens", "max_tool_rounds"]}),
        ("Who may use it", {"fields": ["is_public", "groups"]}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Agent | None = None) -> list[str]:
        return ["id"] if obj else []


class MessageInline(ReadOnly, admin.StackedInline):
    model = Message
    extra = 0
    can_delete = False
    readonly_fields = (
        *("prompt", "text", "called", "status", "error", "model", "usage"),
        *("time_to_first_token", "processing_time"),
    )
    fields = readonly_fields

    @admin.display(description="tools called")
    def called(self, message: Message) -> SafeString | str:
        calls = ((call["name"], call["parameters"], call.get("result", "")) for call in message.tool_calls)
        return format_html_join("", "<details><summary>{} {}</summary><pre>{}</pre></details>", calls) or "-"


@admin.register(Conversation)
class ConversationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["id", "title", "owner", "agent", "turns", "updated_at"]
    list_filter = ["agent"]
    list_select_related = ["owner", "agent"]
    search_fields = ["id", "title"]
    date_hierarchy = "updated_at"
    inlines = [MessageInline]
    fields = ["id", "title", "owner", "agent", "created_at", "updated_at"]
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        conversations: QuerySet[Conversation] = super().get_queryset(request)
        return conversations.annotate(turn_count=Count("messages"))

    @admin.display(ordering="turn_count")
    def turns(self, conversation: Conversation) -> int:
        return conversation.turn_count  # type: ignore[attr-defined,no-any-return]  # annotated above


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["title", "source", "updated_at"]
    search_fields = ["title", "source"]
    show_full_result_count = False
