"""The tokens of a month: counted once for each answer, and refused when they are used up."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from django.test import AsyncClient, RequestFactory
from django.utils import timezone
from rest_framework.request import Request

from assistant.answers.allowances import refuse_spent, renewal_after
from assistant.answers.run import registry
from assistant.api.authentication import APIKeyAuthentication
from assistant.events import Usage
from assistant.models import Allowance, APIKey, Message, MonthlyUsage
from assistant.models.usage import month_of
from tests.upstream import Upstream, broken, holding, reply, until

pytestmark = pytest.mark.usefixtures("db")


def ask(client: AsyncClient, key: APIKey | None = None, query: str = "", **fields: Any) -> Any:
    headers = fields.pop("headers", {}) | ({"authorization": f"Bearer {key.secret}"} if key else {})
    body = {"message": "Hi", **fields}
    return client.post(f"/api/agent/chat{query}", body, content_type="application/json", headers=headers)


@sync_to_async
def make_key(user: User, name: str, **limits: Any) -> APIKey:
    return APIKey.issue(user=user, name=name, **limits)[0]


@sync_to_async
def used(user: User) -> dict[str | None, tuple[int, int, int]]:
    rows = MonthlyUsage.objects.filter(user=user, month=month_of(timezone.now()))
    return {
        row.api_key.name if row.api_key else None: (row.answers, row.input_tokens, row.output_tokens) for row in rows
    }


@sync_to_async
def use(user: User, tokens: int, key: APIKey | None = None, days_ago: int = 0) -> None:
    month = month_of(timezone.now() - timedelta(days=days_ago))
    MonthlyUsage.objects.create(user=user, api_key=key, month=month, input_tokens=tokens - 1, output_tokens=1)


async def test_answers_are_counted_for_their_user_and_key(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    upstream.script = reply("Hello", usage=(15, 6))
    key = await make_key(ada, "laptop")
    for _ in range(2):
        assert (await ask(async_client, key)).status_code == 200
    await async_client.aforce_login(ada)
    assert (await ask(async_client)).status_code == 200
    assert await used(ada) == {"laptop": (2, 30, 12), None: (1, 15, 6)}


async def test_strangers_are_not_counted(async_client: AsyncClient, upstream: Upstream, settings: Any) -> None:
    settings.USER_TOKENS_PER_MONTH = 1
    for _ in range(2):
        assert (await ask(async_client)).status_code == 200
    assert not await MonthlyUsage.objects.aexists()


async def test_a_key_that_has_used_its_tokens_is_429_until_next_month(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    key, other = [await make_key(ada, name, tokens_per_month=7000) for name in ("one", "two")]
    await use(ada, 6999, key)
    assert (await ask(async_client, key)).status_code == 200
    asked = len(upstream.requests)
    refused = await ask(async_client, key, "?stream=true")
    renewal = renewal_after(timezone.now())
    assert refused.status_code == 429
    assert refused.json() == {
        "error": f"This API key has used the 7,000 tokens of this month; there are new ones from {renewal:%Y-%m-%d} "
        "on (UTC).",
        "code": 429,
    }
    assert abs((renewal - timezone.now()).total_seconds() - int(refused["Retry-After"])) < 60
    assert len(upstream.requests) == asked
    assert await Message.objects.acount() == 1
    assert (await ask(async_client, other)).status_code == 200


async def test_a_users_keys_and_sessions_share_what_is_theirs(
    async_client: AsyncClient, upstream: Upstream, settings: Any, ada: User, bob: User
) -> None:
    settings.USER_TOKENS_PER_MONTH = 100
    key, other = [await make_key(ada, name) for name in ("one", "two")]
    await use(ada, 60, key)
    await use(ada, 40)
    assert (await ask(async_client, other)).status_code == 429
    await async_client.aforce_login(ada)
    refused = await ask(async_client)
    assert (refused.status_code, refused.json()["error"][:30]) == (429, "You have used the 100 tokens o")
    assert (await ask(async_client, await make_key(bob, "one"))).status_code == 200
    await Allowance.objects.acreate(user=ada, tokens_per_month=101)
    assert (await ask(async_client)).status_code == 200
    settings.USER_TOKENS_PER_MONTH = None
    assert (await ask(async_client)).status_code == 429


async def test_what_was_used_last_month_does_not_count(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    key = await make_key(ada, "one", tokens_per_month=10)
    await use(ada, 10, key, days_ago=31)
    assert (await ask(async_client, key)).status_code == 200
    assert await used(ada) == {"one": (1, 5, 2)}


async def test_an_answer_that_is_replayed_costs_nothing(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    key = await make_key(ada, "one", tokens_per_month=1)
    first, second = [await ask(async_client, key, headers={"idempotency-key": "k"}) for _ in range(2)]
    assert first.json() == second.json()
    assert await used(ada) == {"one": (1, 5, 2)}


@pytest.mark.parametrize("how", ["stopped", "broken", "uncounted"])
async def test_what_the_model_did_not_count_is_counted_by_its_length(
    async_client: AsyncClient, upstream: Upstream, ada: User, how: str
) -> None:
    said = "x" * 41
    scripts = {"stopped": holding(said), "broken": broken(said), "uncounted": reply(said, usage=None)}
    upstream.script = scripts[how]
    key = await make_key(ada, "one")
    answering = asyncio.create_task(ask(async_client, key, message="y" * 8))
    if how == "stopped":
        await until(lambda: any(run.transcript.text for run in registry.running()))
        registry.running()[0].stop()
    await answering
    assert await used(ada) == {"one": (1, 2, 11)}


async def test_what_failed_before_a_word_was_said_costs_nothing(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    upstream.script = broken()
    await ask(async_client, await make_key(ada, "one"), message="y" * 8)
    assert await used(ada) == {"one": (1, 0, 0)}


async def test_answers_at_once_are_all_counted_and_the_next_are_all_refused(
    async_client: AsyncClient, upstream: Upstream, ada: User
) -> None:
    key = await make_key(ada, "one", tokens_per_month=7 * 12)
    statuses = [each.status_code for each in await asyncio.gather(*(ask(async_client, key) for _ in range(12)))]
    assert statuses == [200] * 12
    assert await used(ada) == {"one": (12, 12 * 5, 12 * 2)}
    asked = len(upstream.requests)
    refused = [each.status_code for each in await asyncio.gather(*(ask(async_client, key) for _ in range(12)))]
    assert refused == [429] * 12
    assert len(upstream.requests) == asked


def test_the_first_answers_of_a_month_make_one_row(ada: User) -> None:
    def charge(number: int) -> None:
        usage = Usage(3, number)
        try:
            MonthlyUsage.objects.charge(user_id=ada.pk, api_key_id=None, ended_at=timezone.now(), usage=usage)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(charge, range(24)))
    row = MonthlyUsage.objects.get()
    assert (row.answers, row.input_tokens, row.output_tokens) == (24, 72, sum(range(24)))


def test_a_key_without_a_limit_costs_no_query_and_one_with_a_limit_one(
    ada: User, django_assert_num_queries: Any
) -> None:
    headers = {"authorization": f"Bearer {APIKey.issue(user=ada, name='free')[1]}"}
    request = Request(RequestFactory().get("/", headers=headers), authenticators=[APIKeyAuthentication()])
    with django_assert_num_queries(2):  # the key with its user, and the moment of its use
        refuse_spent(request.user, request.auth)
    Allowance.objects.create(user=ada, tokens_per_month=7)
    request = Request(RequestFactory().get("/", headers=headers), authenticators=[APIKeyAuthentication()])
    with django_assert_num_queries(2):  # the key with its user and what he may spend, and what he has
        refuse_spent(request.user, request.auth)


@pytest.mark.parametrize(
    ("moment", "renewal"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_month_is_the_calendars(moment: datetime, renewal: datetime) -> None:
    assert renewal_after(moment) == renewal
