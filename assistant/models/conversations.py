"""Conversations and their messages: questions with their answers."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, ClassVar, Self, cast

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.text import slugify

from assistant.events import Failed, Finished, FinishReason, Start, Usage, encode, encode_token
from assistant.models.agents import Agent
from assistant.models.usage import MonthlyUsage
from wire.api.callers import Caller

# If a running answer isn't renewed for so long, another process may end it.
LEASE = timedelta(seconds=30)
# Estimates tokens if the model didn't count them.
CHARS_PER_TOKEN = 4
# The ending of an answer whose process stopped.
INTERRUPTED = Failed("The service stopped while it was answering.", 503, retryable=True)


def new_message_id() -> str:
    return f"msg_{secrets.token_hex(12)}"


def new_conversation_id() -> str:
    return f"conv_{secrets.token_hex(12)}"


def lease_end() -> Any:
    """Return when a lease that begins now ends, by the database's clock: those of machines differ."""
    return Now() + LEASE


class ConversationQuerySet(models.QuerySet["Conversation"]):
    def for_caller(self, caller: Caller) -> Self:
        """Return the conversations that the caller may read by id; anonymous callers share theirs."""
        return self.filter(owner=caller.pk if caller.is_authenticated else None)

    def listed_for(self, caller: Caller) -> Self:
        """Return the conversations that the caller may list: none for an anonymous one."""
        return self.filter(owner=caller.pk) if caller.is_authenticated else self.none()

    def matching(self, text: str) -> Self:
        """Return the conversations with each word of the text in their title or in a turn."""
        found = self
        for word in text.split():
            turns = Message.objects.filter(conversation=OuterRef("pk"))
            turns_with_word = turns.filter(Q(prompt__icontains=word) | Q(text__icontains=word))
            found = found.filter(Q(title__icontains=word) | Exists(turns_with_word))
        return found


class Conversation(models.Model):
    """Turns that belong together, of one owner (None: an anonymous caller)."""

    id = models.CharField(primary_key=True, max_length=40, default=new_conversation_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="conversations"
    )
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[models.Manager["Conversation"]] = ConversationQuerySet.as_manager()

    class Meta:
        ordering = ["-updated_at", "-id"]
        indexes = [
            models.Index(fields=["owner", "-updated_at", "-id"]),
            # The admin lists those of all owners.
            models.Index(fields=["-updated_at", "-id"]),
        ]

    def __str__(self) -> str:
        return self.title or self.id

    @property
    def file_name(self) -> str:
        """Return a file name for an export, in any script."""
        return slugify(self.title, allow_unicode=True)[:60].strip("-_") or self.id

    def rename(self, title: str) -> None:
        self.title = title
        self.save(update_fields=["title"])


class MessageQuerySet(models.QuerySet["Message"]):
    def for_caller(self, caller: Caller) -> Self:
        return self.filter(conversation__owner=caller.pk if caller.is_authenticated else None)

    def running(self, process: str) -> Self:
        """Return the answers that the process writes."""
        return self.filter(status=Message.Status.RUNNING, process=process)

    def abandoned(self, dead: Sequence[str] = ()) -> Self:
        """Return answers marked as running whose lease has expired, or whose process is dead."""
        return self.filter(Q(lease_expires_at__lt=Now()) | Q(process__in=dead), status=Message.Status.RUNNING)

    def ended(self) -> Self:
        return self.exclude(status=Message.Status.RUNNING)

    def hand_over(self, process: str) -> int:
        """Hand these answers over to a process, and return their number."""
        return self.update(process=process, lease_expires_at=lease_end())

    def renew(self) -> int:
        """Renew the leases of these answers, and return their number."""
        return self.update(lease_expires_at=lease_end())


class Message(models.Model):
    """One turn: the question (`prompt`), and the answer (`text`) with its events and statistics."""

    class Status(models.TextChoices):
        RUNNING = "running"
        COMPLETED = "completed"
        FAILED = "failed"
        CANCELLED = "cancelled"
        INTERRUPTED = "interrupted"

    id = models.CharField(primary_key=True, max_length=40, default=new_message_id, editable=False)
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="messages")
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="messages")
    model = models.CharField(max_length=200, help_text="The model that answered.")
    status = models.CharField(max_length=12, choices=Status, default=Status.RUNNING)
    prompt = models.TextField()
    text = models.TextField(blank=True)
    events = models.JSONField(
        default=list,
        blank=True,
        help_text="The stream in short: the length of each token, and each tool's event as JSON text.",
    )
    finish_reason = models.CharField(max_length=12, blank=True)
    error = models.JSONField(null=True, blank=True, help_text="message, code and retryable of what went wrong.")
    input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    time_to_first_token = models.FloatField(null=True, blank=True, help_text="Seconds.")
    processing_time = models.FloatField(null=True, blank=True, help_text="Seconds.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True, editable=False)
    process = models.CharField(max_length=100, editable=False, help_text="The process that writes the answer.")
    lease_expires_at = models.DateTimeField(
        default=lease_end, editable=False, help_text="If it is running after this moment, its process is gone."
    )
    api_key = models.ForeignKey(
        "APIKey",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
        help_text="The key that asked.",
    )
    caller = models.CharField(max_length=64, help_text="Whose Idempotency-Key it is.")
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001  # null: no key, not unique
    request_hash = models.CharField(max_length=64, blank=True)

    objects: ClassVar[models.Manager["Message"]] = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [
            models.Index(fields=["conversation", "created_at", "id"]),
            # Covers all columns that the admin counts, because rows are long.
            models.Index(
                fields=[
                    *("created_at", "status", "agent", "caller", "input_tokens", "output_tokens"),
                    *("time_to_first_token", "processing_time", "id"),
                ],
                name="assistant_counted",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["conversation"], condition=Q(status="running"), name="one_running_answer_a_conversation"
            ),
            models.UniqueConstraint(fields=["caller", "idempotency_key"], name="an_idempotency_key_once_a_caller"),
            models.CheckConstraint(
                condition=Q(status__in=["running", "completed", "failed", "cancelled", "interrupted"]),
                name="a_known_status",
            ),
        ]

    def __str__(self) -> str:
        return self.id

    @property
    def has_ended(self) -> bool:
        return self.status != self.Status.RUNNING

    @property
    def usage(self) -> Usage:
        return Usage(self.input_tokens, self.output_tokens)

    @property
    def billed_usage(self) -> Usage:
        """Return the charged usage, estimated from the texts' lengths if the model didn't report it."""
        if self.usage != Usage() or not self.text:
            return self.usage
        return Usage(*(-(-len(text) // CHARS_PER_TOKEN) for text in (self.prompt, self.text)))

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """Return the tool calls with their results, in order."""
        calls: dict[str, dict[str, Any]] = {}
        for event in map(json.loads, (event for event in self.events if isinstance(event, str))):
            calls.setdefault(event["tool_call_id"], {}).update(event)
        return [{name: value for name, value in call.items() if name != "type"} for call in calls.values()]

    def payloads(self) -> Iterator[str]:
        """Yield the events of an answer that has ended, as they were streamed."""
        yield encode(Start(self.id, self.conversation_id, self.agent_id))
        position = 0
        for event in self.events:
            if isinstance(event, str):
                yield event
            else:
                yield encode_token(self.text[position : position + event])
                position += event
        yield encode(self.ending())

    def events_after(self, cursor: int) -> Iterator[tuple[int, str]]:
        """Yield the numbered events after `cursor` of an answer that has ended.

        A reader may have more events than were stored before the process died: it still receives the interruption.
        """
        number = 0
        for number, payload in enumerate(self.payloads(), start=1):
            if number > cursor:
                yield number, payload
        if cursor >= number and self.status == self.Status.INTERRUPTED:
            yield cursor + 1, encode(self.ending())

    def ending(self) -> Finished | Failed:
        """Return the last event of an answer that has ended."""
        if self.error:
            return Failed(**self.error)
        return Finished(self.id, cast(FinishReason, self.finish_reason), self.usage, self.processing_time or 0.0)

    def end(
        self,
        ending: Finished | Failed,
        *,
        status: str,
        text: str,
        events: list[Any],
        usage: Usage,
        time_to_first_token: float | None,
        processing_time: float | None,
    ) -> None:
        """Set the outcome of the answer; `store_ending` writes it."""
        self.status = status
        self.finish_reason = ending.finish_reason if isinstance(ending, Finished) else ""
        self.error = None if isinstance(ending, Finished) else asdict(ending)
        self.text = text
        self.events = events
        self.input_tokens, self.output_tokens = usage.input_tokens, usage.output_tokens
        self.time_to_first_token = time_to_first_token
        self.processing_time = processing_time
        self.finished_at = timezone.now()

    def store_ending(self) -> Finished | Failed:
        """Write the ending and its usage, and return it; an answer that another process took over was interrupted."""
        values = {name: getattr(self, name) for name in ENDING_FIELDS}
        with transaction.atomic():
            if Message.objects.filter(pk=self.pk).running(self.process).update(**values):
                Conversation.objects.filter(pk=self.conversation_id).update(updated_at=self.finished_at)
                # Last, because other transactions wait for this row until the commit.
                self._charge()
            else:
                self.status, self.error, self.finish_reason = self.Status.INTERRUPTED, asdict(INTERRUPTED), ""
        return self.ending()

    def _charge(self) -> None:
        """Charge the answer to its owner; an anonymous caller isn't charged."""
        if self.conversation.owner_id is not None:
            MonthlyUsage.objects.charge(
                user_id=self.conversation.owner_id,
                api_key_id=self.api_key_id,
                ended_at=self.finished_at or timezone.now(),
                usage=self.billed_usage,
            )

    def take_events(self, payloads: Sequence[str]) -> None:
        """Set text and events from the known part of the stream."""
        known = [(payload, json.loads(payload)) for payload in payloads]
        self.text = "".join(event["content"] for _, event in known if event["type"] == "token")
        self.events = [
            len(event["content"]) if event["type"] == "token" else payload
            for payload, event in known
            if event["type"] in STORED_EVENTS
        ]

    def interrupt(self) -> None:
        """End an answer whose process has died."""
        self.end(
            INTERRUPTED,
            status=self.Status.INTERRUPTED,
            text=self.text,
            events=self.events,
            usage=Usage(),
            time_to_first_token=None,
            processing_time=None,
        )
        self.store_ending()


# The events of a stream that a row keeps.
STORED_EVENTS = {"token", "tool_call", "tool_result"}
ENDING_FIELDS = (
    "status",
    "finish_reason",
    "error",
    "text",
    "events",
    "input_tokens",
    "output_tokens",
    "time_to_first_token",
    "processing_time",
    "finished_at",
)
