"""Retention: old rows are deleted, and all rows of a deleted person, and nothing else."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from assistant.models import Agent, APIKey, Conversation, Message
from batching.models import Batch, BatchItem
from tests.assistant.conftest import db  # noqa: F401  # a fixture

pytestmark = pytest.mark.usefixtures("db")


def living(name: str) -> User:
    """Return a user who has something of everything."""
    user = User.objects.create_user(name, is_staff=True)
    Client().force_login(user)
    key, _ = APIKey.issue(user=user, name=name)
    conversation = said(user, name)
    batch = Batch.objects.create(owner=user, total=1, caller=f"user:{user.pk}", finished_at=timezone.now(), **ENDED)
    BatchItem.objects.create(batch=batch, position=0, request_body=name)
    operator, _ = User.objects.get_or_create(username="root")
    for row in (user, key, conversation, conversation.messages.get(), batch):
        LogEntry.objects.create(
            user=operator,
            content_type=ContentType.objects.get_for_model(row),
            object_id=str(row.pk),
            object_repr=name,
            action_flag=CHANGE,
            change_message="",
        )
    return user


ENDED: dict[str, Any] = {"status": "completed"}


def said(user: User, text: str, *, days: int = 0, status: str = "completed") -> Conversation:
    agent, then = Agent.objects.get(pk="default"), timezone.now() - timedelta(days=days)
    conversation = Conversation.objects.create(owner=user, agent=agent, title=text, updated_at=then)
    told = {"model": "openai:test", "process": "here", "status": status}
    Message.objects.create(conversation=conversation, agent=agent, prompt=text, caller=f"user:{user.pk}", **told)
    return conversation


def everything() -> str:
    """Return every row of the database as text, and the sessions as what they hold."""
    rows = [str(list(model._default_manager.values())) for model in apps.get_models()]
    return "".join(rows) + str([session.get_decoded() for session in Session.objects.all()])


def test_nothing_of_a_deleted_person_is_left() -> None:
    living("Wilhelmina")
    living("Bertrand")
    assert everything().count("Wilhelmina") > 4
    before = everything().count("Bertrand")
    output = StringIO()
    call_command("delete_person", "Wilhelmina", stdout=output)
    assert "1 assistant.Conversation\n" in output.getvalue()
    assert "1 sessions.Session\n" in output.getvalue()
    assert "Wilhelmina" not in everything()
    assert everything().count("Bertrand") == before
    assert Session.objects.count() == 1


def test_a_person_who_is_not_there_is_said() -> None:
    with pytest.raises(CommandError, match="There is no user ada"):
        call_command("delete_person", "ada")


def test_conversations_go_when_nothing_was_said_for_long(settings: Any) -> None:
    user = User.objects.create_user("ada")
    said(user, "old", days=31)
    said(user, "running", days=31, status="running")
    said(user, "new", days=29)
    call_command("prune", stdout=StringIO())
    assert Conversation.objects.count() == 3
    settings.CONVERSATION_RETENTION_DAYS = 30
    output = StringIO()
    call_command("prune", stdout=output)
    assert "Deleted 1 conversations." in output.getvalue()
    assert set(Conversation.objects.values_list("title", flat=True)) == {"running", "new"}
