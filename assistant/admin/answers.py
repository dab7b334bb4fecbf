"""The admin's list of answers, without their texts, which the conversations show."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from assistant.admin.conversations import change_url
from assistant.models import Message
from wire.admin import ReadOnly, format_time
from wire.observe.durations import format_duration


@admin.register(Message)
class AnswerAdmin(ReadOnly, admin.ModelAdmin):
    """The list of answers, with their times and tokens."""

    list_display = [
        *("when", "status", "agent_name", "owner", "model", "first_token", "time"),
        *("input_tokens", "output_tokens"),
    ]
    list_filter = ["status", "agent"]
    list_per_page = 50
    ordering = ["-created_at", "-id"]
    search_fields = ["id__startswith", "=caller"]
    search_help_text = "An answer's id or its beginning, or a caller, such as user:1."
    show_full_result_count = False
    actions = None
    fields = [
        *("id", "status", "error", "agent", "owner", "model", "of_conversation"),
        *("input_tokens", "output_tokens", "first_token", "time", "when", "ended"),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        # Long columns aren't read; a join would have SQLite sort all rows.
        answers: QuerySet[Message] = super().get_queryset(request)
        return answers.defer("prompt", "text", "events").prefetch_related("conversation__owner")

    @admin.display(description="asked at", ordering="created_at")
    def when(self, message: Message) -> str:
        return format_time(message.created_at)

    @admin.display(description="ended at")
    def ended(self, message: Message) -> str:
        return format_time(message.finished_at) if message.finished_at else "-"

    @admin.display(description="agent", ordering="agent_id")
    def agent_name(self, message: Message) -> str:
        return message.agent_id

    @admin.display
    def owner(self, message: Message) -> SafeString | str:
        owner = message.conversation.owner
        return format_html("<bdi>{}</bdi>", owner) if owner else "anonymous"

    @admin.display(description="first token", ordering="time_to_first_token")
    def first_token(self, message: Message) -> str:
        return format_seconds(message.time_to_first_token)

    @admin.display(ordering="processing_time")
    def time(self, message: Message) -> str:
        return format_seconds(message.processing_time)

    @admin.display(description="conversation")
    def of_conversation(self, message: Message) -> SafeString:
        page = change_url(message.conversation_id)
        return format_html('<a href="{}">{}</a>', page, message.conversation_id)


def format_seconds(number: float | None) -> str:
    return "-" if number is None else format_duration(number)
