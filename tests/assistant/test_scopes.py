"""What an API key that has scopes may call."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import checks
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from assistant.models import APIKey
from tests.assistant.websocket.test_consumer import Socket, connected

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture(autouse=True)
def no_background(settings: Any) -> None:
    settings.BATCH_RUN_IN_SERVER = False


# What a call that is let through answers; a chat without a message is a 400 then.
CALLS = {
    ("GET", "/api/agents"): 200,
    ("GET", "/api/conversations"): 200,
    ("POST", "/api/agent/chat"): 400,
    ("GET", "/api/tools"): 200,
    ("POST", "/api/tools/calculator/execute"): 400,
    ("GET", "/api/batch"): 200,
    ("POST", "/api/batch"): 400,
}
MAY_CALL = {
    "chat": {("GET", "/api/agents"), ("GET", "/api/conversations"), ("POST", "/api/agent/chat")},
    "tools": {("GET", "/api/tools"), ("POST", "/api/tools/calculator/execute")},
    "batches": {("GET", "/api/batch"), ("POST", "/api/batch")},
    "read": {call for call in CALLS if call[0] == "GET"},
    "": set(CALLS),
    "chat read": {("POST", "/api/agent/chat"), *(call for call in CALLS if call[0] == "GET")},
}


def key_for(user: User, *scopes: str) -> dict[str, str]:
    return {"authorization": f"Bearer {APIKey.issue(user=user, name='test', scopes=list(scopes))[1]}"}


@pytest.mark.parametrize("scopes", MAY_CALL)
def test_a_key_calls_what_its_scopes_allow_and_nothing_else(client: Client, ada: User, scopes: str) -> None:
    headers = key_for(ada, *scopes.split())

    def status(method: str, path: str) -> int:
        return client.generic(method, path, "{}", content_type="application/json", headers=headers).status_code

    expected = {call: passed if call in MAY_CALL[scopes] else 403 for call, passed in CALLS.items()}
    assert {call: status(*call) for call in CALLS} == expected


def test_a_refusal_names_the_scopes(client: Client, ada: User) -> None:
    answer = client.get("/api/agents", headers=key_for(ada, "tools", "batches")).json()
    assert answer == {"error": "This API key may not call this: its scopes are tools, batches.", "code": 403}


def views(patterns: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from views(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route, pattern.callback


def test_every_view_of_the_api_names_a_scope_that_keys_have() -> None:
    found = {route: view for route, view in views(get_resolver().url_patterns) if route.startswith("api/")}
    assert len(found) > 15
    for route in found.keys() - {"api/schema", "api/docs"}:
        assert set(found[route].cls.required_scopes) < set(APIKey.Scope.values), route


def test_items_of_a_batch_need_their_own_scopes(client: Client, ada: User) -> None:
    run = {"id": "a", "method": "POST", "path": "/api/tools/calculator/execute"}
    items = [
        {**run, "body": {"parameters": {"expression": "1+1"}}},
        {"id": "b", "method": "GET", "path": "/api/agents"},
    ]
    sent = {
        "data": {"requests": items},
        "content_type": "application/json",
        "headers": key_for(ada, "batches", "tools"),
    }
    answer = client.post("/api/batch", **sent).json()
    assert [each["status"] for each in answer["responses"]] == [200, 403]


async def test_a_websocket_obeys_them(ada: User) -> None:
    tools, read = (key[1] for key in await issue(ada, ["tools"], ["read"]))
    refused = await Socket(authorization=f"Bearer {tools}").handshake()
    assert (refused["type"], refused["status"]) == ("websocket.http.response.start", 403)
    async with connected(authorization=f"Bearer {read}") as socket:
        frame = await socket.ask(type="chat", message="Hi")
        assert (frame["type"], frame["code"]) == ("refused", 403)


async def issue(user: User, *scopes: list[str]) -> list[tuple[APIKey, str]]:
    from asgiref.sync import sync_to_async

    make = sync_to_async(APIKey.issue)
    return [await make(user=user, name=each[0], scopes=each) for each in scopes]


def test_a_project_that_takes_keys_and_forgets_their_scopes_is_told(settings: Any) -> None:
    def said() -> list[str | None]:
        return [message.id for message in checks.run_checks(tags=["assistant"])]

    assert said() == []
    permissions = ["rest_framework.permissions.IsAuthenticated"]
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DEFAULT_PERMISSION_CLASSES": permissions}
    assert said() == ["assistant.E002"]
