"""Retention: deletes old conversations, and all data of a person."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import batched
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from assistant.models import APIKey, Conversation, Message
from batching.models import Batch, BatchItem

# What the admin's log names by its title or by its id, with the field that leads to its owner.
OWNED: list[tuple[type[Model], str]] = [
    (APIKey, "user"),
    (Conversation, "owner"),
    (Message, "conversation__owner"),
    (Batch, "owner"),
    (BatchItem, "batch__owner"),
]
# Conversations that one statement deletes: a short statement locks the rows of others only briefly.
SLICE = 500


def prune_conversations(*, older_than: timedelta) -> int:
    """Delete conversations without a message for so long; return their number."""
    running = Message.objects.filter(status=Message.Status.RUNNING).values("conversation")
    old = Conversation.objects.filter(updated_at__lt=timezone.now() - older_than).exclude(pk__in=running)
    deleted = 0
    while ids := list(old.order_by("updated_at").values_list("pk", flat=True)[:SLICE]):
        Conversation.objects.filter(pk__in=ids).delete()
        deleted += len(ids)
    return deleted


def forget(person: Any) -> dict[str, int]:
    """Delete a user with all data and the entries of the admin's log; return the number of rows by model."""
    with transaction.atomic():
        entries = forget_entries(type(person), [person.pk])
        for model, owner in OWNED:
            theirs = model._default_manager.filter(**{owner: person})
            entries += forget_entries(model, theirs.values_list("pk", flat=True))
        sessions = [session.pk for session in Session.objects.iterator() if belongs(session, person)]
        Session.objects.filter(pk__in=sessions).delete()
        _, rows = person.delete()
    return {**rows, "sessions.Session": len(sessions), "admin.LogEntry": entries + rows.get("admin.LogEntry", 0)}


def forget_entries(model: type[Model], pks: Iterable[Any]) -> int:
    """Delete the entries of the admin's log about rows of a model; return their number."""
    about = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(model))
    return sum(about.filter(object_id__in=map(str, some)).delete()[0] for some in batched(pks, SLICE))


def belongs(session: Session, person: Any) -> bool:
    return session.get_decoded().get("_auth_user_id") == str(person.pk)
