"""An API key's limits apply to each item of a batch, in a request and in the background."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from assistant.models import APIKey, MonthlyUsage
from assistant.models.usage import month_of
from config import throttles
from tests.assistant.conftest import db  # noqa: F401  # a fixture

LIST = {"method": "GET", "path": "/api/tools"}
CHAT = {"method": "POST", "path": "/api/agent/chat", "body": {"message": "Hi"}}


@pytest.fixture(autouse=True)
def fresh(settings: Any) -> Iterator[None]:
    settings.BATCH_RUN_IN_SERVER = False
    settings.BATCH_MAX_ATTEMPTS = 1
    yield
    throttles.own.cache_clear()


@pytest.fixture
def ada(db: None) -> User:  # noqa: F811
    return User.objects.create_user("ada")


def run_batch(key: APIKey, items: list[dict[str, Any]], background: bool) -> list[tuple[int, str]]:
    """Send a batch and return what its items were answered: the status, and what went wrong."""
    named = [{"id": str(position), **item} for position, item in enumerate(items)]
    headers = {"authorization": f"Bearer {key.secret}"} | ({"prefer": "respond-async"} if background else {})
    sent = Client().post("/api/batch", {"requests": named}, content_type="application/json", headers=headers)
    answers = sent.json()["responses"] if not background else background_results(sent["Location"], key.user)
    return [(answer["status"], answer.get("error", "")) for answer in answers]


def background_results(location: str, user: User) -> list[Any]:
    call_command("run_batches", drain=True)
    reader = Client()
    reader.force_login(user)
    results = reader.get(f"{location}/results")
    return [json.loads(line) for line in results.getvalue().splitlines()]


@pytest.mark.parametrize("background", [False, True])
def test_items_need_the_keys_scopes(ada: User, background: bool) -> None:
    key, _ = APIKey.issue(user=ada, name="test", scopes=["batches", "tools"])
    refusal = "This API key may not call this: its scopes are batches, tools."
    assert run_batch(key, [LIST, CHAT], background) == [(200, ""), (403, refusal)]


@pytest.mark.parametrize("background", [False, True])
def test_items_count_as_the_keys_requests(ada: User, background: bool) -> None:
    key, _ = APIKey.issue(user=ada, name="test", requests_per_minute=3)
    statuses = [status for status, _ in run_batch(key, [LIST] * 3, background)]
    assert sorted(statuses) == [200, 200, 429]


@pytest.mark.parametrize("background", [False, True])
def test_items_are_refused_when_the_keys_tokens_are_used_up(ada: User, background: bool) -> None:
    key, _ = APIKey.issue(user=ada, name="test", tokens_per_month=10)
    MonthlyUsage.objects.create(user=ada, api_key=key, month=month_of(timezone.now()), input_tokens=10)
    answers = run_batch(key, [CHAT, LIST, CHAT], background)
    assert [status for status, _ in answers] == [429, 200, 429]
    assert answers[0][1].startswith("This API key has used the 10 tokens of this month;")
