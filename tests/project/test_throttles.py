"""Who calls too often, or has spent their tokens, is told when to come back."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from assistant.models import APIKey
from config import throttles
from tests.assistant.conftest import ThreadedClient, db, upstream  # noqa: F401  # fixtures
from tests.redis_server import RedisServer, redis_server
from tests.upstream import Upstream, reply


@pytest.fixture(autouse=True)
def fresh_counts() -> Iterator[None]:
    yield
    throttles.own.cache_clear()
    throttles.shared.cache_clear()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def ada(db: None) -> User:  # noqa: F811
    return User.objects.create_user("ada", password="a long word")


def key_of(user: User, **limits: int) -> dict[str, str]:
    return {"authorization": f"Bearer {APIKey.issue(user=user, name='test', **limits)[1]}"}


def statuses(client: Client, headers: dict[str, str], times: int) -> list[int]:
    return [client.get("/api/agents", headers=headers).status_code for _ in range(times)]


def test_a_key_that_calls_too_often_is_429(client: Client, settings: Any, ada: User) -> None:
    settings.THROTTLE_KEY = "2/minute"
    headers = key_of(ada)
    assert statuses(client, headers, 2) == [200, 200]
    refused = client.get("/api/agents", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (429, 429)
    assert 1 <= int(refused["Retry-After"]) <= 120
    assert statuses(client, key_of(ada), 2) == [200, 200]


def test_a_key_may_have_a_limit_of_its_own(client: Client, settings: Any, ada: User) -> None:
    settings.THROTTLE_KEY = "2/minute"
    assert statuses(client, key_of(ada, requests_per_minute=3), 4) == [200, 200, 200, 429]
    assert statuses(client, key_of(ada, requests_per_minute=1), 2) == [200, 429]


def test_a_users_keys_and_sessions_count_together(client: Client, settings: Any, ada: User) -> None:
    settings.THROTTLE_USER = "3/minute"
    assert statuses(client, key_of(ada), 2) == [200, 200]
    assert statuses(client, key_of(ada), 1) == [200]
    client.force_login(ada)
    assert statuses(client, {}, 1) == [429]
    assert statuses(Client(), key_of(User.objects.create_user("bob")), 1) == [200]


def test_each_limit_of_several_counts(client: Client, settings: Any, ada: User) -> None:
    settings.THROTTLE_KEY = "100/minute; 2/hour"
    assert statuses(client, key_of(ada), 3) == [200, 200, 429]


def test_strangers_are_counted_by_their_address(client: Client, settings: Any, db: None) -> None:  # noqa: F811
    settings.THROTTLE_USER = "1/minute"
    assert statuses(client, {}, 2) == [200, 429]
    assert statuses(Client(REMOTE_ADDR="127.0.0.2"), {}, 1) == [200]


def test_calls_at_once_never_pass_a_limit_together(settings: Any, redis: RedisServer) -> None:
    settings.REDIS_URL = redis.url
    with ThreadPoolExecutor(16) as threads:
        waits = list(threads.map(lambda _: throttles.wait("50/hour", "many"), range(400)))
    assert waits.count(None) == 50


def test_without_a_redis_calls_at_once_are_counted_one_by_one(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage of `limits` in memory lets too many pass otherwise, or fails where two threads start its timer."""
    inside: list[int] = []
    most: list[int] = []

    def hit(*args: Any) -> bool:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.01)
        inside.pop()
        return True

    settings.REDIS_URL = ""
    monkeypatch.setattr(throttles.own(), "hit", hit)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: throttles.wait("500/hour", "many"), range(16)))
    assert most == [1] * 16


def test_counts_are_the_same_in_every_process(settings: Any, redis: RedisServer) -> None:
    settings.REDIS_URL = redis.url
    assert throttles.wait("1/hour", "one") is None
    throttles.shared.cache_clear()
    assert throttles.wait("1/hour", "one")


def test_a_redis_that_is_gone_leaves_each_process_its_own_counts(
    client: Client, settings: Any, ada: User, caplog: pytest.LogCaptureFixture
) -> None:
    settings.REDIS_URL, settings.THROTTLE_KEY = "redis://127.0.0.1:9/0", "2/minute"
    assert statuses(client, key_of(ada), 3) == [200, 200, 429]
    assert "throttle=shared state=unreachable" in caplog.text


@pytest.mark.parametrize("shared", [False, True])
async def test_tokens_that_are_spent_are_429_until_there_are_new_ones(
    async_client: AsyncClient,
    settings: Any,
    upstream: Upstream,  # noqa: F811
    redis: RedisServer,
    shared: bool,
) -> None:
    settings.THROTTLE_TOKENS = "20/day; 1000/month"
    settings.REDIS_URL = redis.url if shared else ""
    upstream.script = reply("Hello", usage=(15, 6))
    first = await ask(async_client)
    throttles.CHARGING.submit(int).result()
    second = await ask(async_client)
    assert (first.status_code, second.status_code) == (200, 429)
    assert 60 < int(second["Retry-After"]) <= 24 * 60 * 60
    assert (await async_client.get("/api/agents")).status_code == 200


@pytest.mark.parametrize("shared", [False, True])
async def test_a_key_has_its_tokens_of_a_minute(
    async_client: AsyncClient,
    settings: Any,
    upstream: Upstream,  # noqa: F811
    redis: RedisServer,
    ada: User,
    shared: bool,
) -> None:
    settings.REDIS_URL = redis.url if shared else ""
    upstream.script = reply("Hello", usage=(15, 6))
    key, other = [await sync_to_async(key_of)(ada, tokens_per_minute=21) for _ in range(2)]
    assert (await ask(async_client, key)).status_code == 200
    throttles.CHARGING.submit(int).result()
    refused = await ask(async_client, key)
    assert (refused.status_code, 1 <= int(refused["Retry-After"]) <= 60) == (429, True)
    assert (await ask(async_client, other)).status_code == 200


async def ask(client: AsyncClient, headers: dict[str, str] | None = None) -> Any:
    return await client.post("/api/agent/chat", {"message": "Hi"}, content_type="application/json", headers=headers)


@pytest.fixture
def async_client() -> AsyncClient:
    return ThreadedClient()


@pytest.mark.usefixtures("db")
def test_logging_in_is_throttled_by_address(client: Client, settings: Any) -> None:
    settings.THROTTLE_LOGIN = "2/minute"
    assert [log_in(client, name, "x").status_code for name in ("eve", "mallory", "trudy")] == [200, 200, 429]
    assert client.get("/admin/login/").status_code == 200


@pytest.fixture
def staff(ada: User) -> User:
    ada.is_staff = True
    ada.set_password("a long word")
    ada.save()
    return ada


def test_strangers_cant_lock_the_owner_of_a_name_out(settings: Any, staff: User) -> None:
    settings.THROTTLE_LOGIN = "10/minute; 100/day"
    stranger, owner = Client(REMOTE_ADDR="127.0.0.2"), Client(REMOTE_ADDR="127.0.0.3")
    assert [log_in(stranger, "ada", "wrong").status_code for _ in range(11)] == [200] * 10 + [429]
    assert log_in(owner, "ada", "a long word").status_code == 302


def test_a_name_that_was_tried_too_often_has_an_attempt_a_minute_from_each_address(settings: Any, staff: User) -> None:
    settings.THROTTLE_LOGIN = "2/minute"
    for address in ("127.0.0.2", "127.0.0.3"):
        assert log_in(Client(REMOTE_ADDR=address), "ada", "wrong").status_code == 200
    guesses = [log_in(Client(REMOTE_ADDR="127.0.0.4"), "ada", "wrong") for _ in range(2)]
    assert [guess.status_code for guess in guesses] == [200, 429]
    assert int(guesses[1]["Retry-After"]) > 0


@pytest.mark.parametrize("spelt", ["ada ", " ada", "\uff41da", "ADA", "\tada\n"])
def test_a_name_counts_as_django_looks_it_up(settings: Any, staff: User, spelt: str) -> None:
    settings.THROTTLE_LOGIN = "2/minute"
    for address in ("127.0.0.2", "127.0.0.3"):
        assert log_in(Client(REMOTE_ADDR=address), spelt, "wrong").status_code == 200
    client = Client(REMOTE_ADDR="127.0.0.4")
    assert [log_in(client, name, "wrong").status_code for name in ("ada", spelt)] == [200, 429]


def log_in(client: Client, name: str, password: str) -> Any:
    return client.post("/admin/login/", {"username": name, "password": password})
