"""Authorization: on every path of the API and of the admin, by every method, another caller's objects seem absent."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from assistant.models import Agent, APIKey, Conversation, Message
from batching.models import Batch, BatchItem
from tests.assistant.conftest import db  # noqa: F401  # a fixture

SECRET = "what only Ada may read"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Path parameters that name no object.
MISSING = {"message_id": "msg_none", "conversation_id": "conv_none", "batch_id": "batch_none", "name": "none"}


def routes(patterns: Any, prefix: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield "/" + route


ALL = sorted(set(routes(get_resolver().url_patterns)))
API = [route for route in ALL if route.startswith("/api/")]
NAMING = [route for route in API if "<" in route]
# The admin says what may be seen of a model; its paths are regular expressions and have more in them.
ADMIN = sorted({model._meta.label_lower for model in apps.get_models() if model._meta.app_label != "admin"})

# Of these a permission to view shows nothing.
FOR_SUPERUSERS = {"assistant.apikey", "assistant.allowance", "assistant.monthlyusage"}


def filled(route: str, ids: dict[str, str]) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: ids[found[1]], route)


@dataclass
class Owner:
    user: User
    key: dict[str, str]
    ids: dict[str, str]

    def rows(self) -> list[Any]:
        """Return all that is existing, as it is now."""
        kinds = (Conversation, Message, Batch, BatchItem)
        return [list(kind.objects.order_by("pk").values()) for kind in kinds]  # type: ignore[attr-defined]  # models


def key_of(user: User) -> dict[str, str]:
    return {"authorization": f"Bearer {APIKey.issue(user=user, name='test')[1]}"}


@pytest.fixture
def ada(db: None, settings: Any) -> Owner:  # noqa: F811
    settings.DEBUG = False
    settings.BATCH_RUN_IN_SERVER = False
    user = User.objects.create_user("ada", first_name=SECRET)
    agent = Agent.objects.get(pk="default")
    conversation = Conversation.objects.create(owner=user, agent=agent, title=SECRET)
    running = {"status": "running", "process": "another", "model": "openai:test"}
    message = Message.objects.create(
        conversation=conversation, agent=agent, prompt=SECRET, caller=f"user:{user.pk}", idempotency_key="k", **running
    )
    batch = Batch.objects.create(
        owner=user,
        status="queued",
        total=1,
        caller=f"user:{user.pk}",
        idempotency_key="k",
        expires_at=timezone.now() + timedelta(days=1),
    )
    BatchItem.objects.create(batch=batch, position=0, item_id=SECRET, request_body=SECRET)
    ids = {"message_id": message.pk, "conversation_id": conversation.pk, "batch_id": batch.pk, "name": "calculator"}
    return Owner(user, key_of(user), ids)


def anonymous() -> tuple[Client, dict[str, str]]:
    return Client(), {}


def another_user() -> tuple[Client, dict[str, str]]:
    client = Client()
    client.force_login(User.objects.create_user("bob"))
    return client, {}


def another_users_key() -> tuple[Client, dict[str, str]]:
    return Client(), key_of(User.objects.create_user("bob"))


def staff_viewer() -> tuple[Client, dict[str, str]]:
    client = Client()
    user = User.objects.create_user("eve", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client, {}


STRANGERS: list[Callable[[], tuple[Client, dict[str, str]]]] = [
    anonymous,
    another_user,
    another_users_key,
    staff_viewer,
]


def outcome(response: Any) -> tuple[int, str]:
    """Return the status and body that a caller receives."""
    content = b"".join(response) if response.streaming and not response.is_async else getattr(response, "content", b"")
    return response.status_code, content.decode()


def call(client: Client, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    return outcome(client.generic(method, path, "{}", content_type="application/json", headers=headers))


def test_the_routes_are_found() -> None:
    assert len(API) > 15
    assert len(NAMING) > 10
    assert {name for route in API for name in re.findall(r"<(?:\w+:)?(\w+)>", route)} == MISSING.keys()


@pytest.mark.parametrize("stranger", STRANGERS)
def test_what_is_anothers_is_as_if_it_were_not_there(
    stranger: Callable[[], tuple[Client, dict[str, str]]], ada: Owner
) -> None:
    client, headers = stranger()
    before = ada.rows()
    for route in NAMING:
        if "<str:name>" in route:
            continue  # tools have no owner
        for method in METHODS:
            existing = call(client, method, filled(route, ada.ids), headers)
            missing = call(client, method, filled(route, MISSING), headers)
            assert existing == missing, (method, route)
            assert method == "OPTIONS" or existing[0] in (401, 403, 404, 405), (method, route)
    assert ada.rows() == before


@pytest.mark.parametrize("stranger", STRANGERS)
def test_no_list_and_no_answer_shows_what_is_anothers(
    stranger: Callable[[], tuple[Client, dict[str, str]]], ada: Owner
) -> None:
    client, headers = stranger()
    before = ada.rows()
    for route in API:
        for method in METHODS:
            _, content = call(client, method, filled(route, ada.ids), headers)
            assert SECRET not in content, (method, route)
            assert not any(ada.ids[name] in content for name in MISSING if name != "name"), (method, route)
    assert ada.rows() == before


@pytest.mark.parametrize("stranger", [another_user, another_users_key, staff_viewer])
def test_naming_what_is_anothers_in_a_body_tells_nothing(
    stranger: Callable[[], tuple[Client, dict[str, str]]], ada: Owner
) -> None:
    client, headers = stranger()
    before = ada.rows()

    def ask(conversation: str) -> tuple[int, str]:
        body = json.dumps({"message": "Hi", "conversation_id": conversation})
        return outcome(client.post("/api/agent/chat", body, content_type="application/json", headers=headers))

    assert ask(ada.ids["conversation_id"]) == ask("conv_none")
    item = {"id": "a", "method": "GET", "path": f"/api/conversations/{ada.ids['conversation_id']}"}
    batch = json.dumps({"requests": [item]})
    keyed = headers | {"idempotency-key": "k"}
    status, content = outcome(client.post("/api/batch", batch, content_type="application/json", headers=keyed))
    assert status == 200
    assert [answer["status"] for answer in json.loads(content)["responses"]] == [404]
    assert all(row in after for rows, after in zip(before, ada.rows(), strict=True) for row in rows)


def test_the_owner_uses_the_same_routes(ada: Owner) -> None:
    paths = ["/api/conversations/<conversation_id>", "/api/agent/messages/<message_id>", "/api/batch/<batch_id>"]
    for path in paths:
        assert call(Client(), "GET", filled(path, ada.ids), ada.key)[0] == 200
    assert SECRET in call(Client(), "GET", "/api/conversations", ada.key)[1]
    assert call(Client(), "POST", filled("/api/batch/<batch_id>/cancel", ada.ids), ada.key)[0] == 200
    assert call(Client(), "DELETE", filled(paths[0], ada.ids), ada.key)[0] == 204


@pytest.mark.parametrize("label", ADMIN)
@pytest.mark.parametrize("stranger", [anonymous, another_user])
def test_the_admin_is_for_staff(stranger: Callable[[], tuple[Client, dict[str, str]]], label: str, ada: Owner) -> None:
    client, headers = stranger()
    for path in ("", "add/", "1/change/", "1/delete/", "1/history/"):
        for method in ("GET", "POST"):
            status, content = call(client, method, f"/admin/{label.replace('.', '/')}/{path}", headers)
            assert status in (302, 403, 404)
            assert SECRET not in content


def test_staff_sees_in_the_admin_what_they_were_allowed_and_changes_nothing(ada: Owner) -> None:
    client, _ = staff_viewer()
    unprivileged = Client()
    unprivileged.force_login(User.objects.create_user("mallory", is_staff=True))
    before = ada.rows()
    for label in ADMIN:
        path = f"/admin/{label.replace('.', '/')}/"
        assert unprivileged.get(path).status_code in (403, 404), label
        assert client.get(path).status_code in ((403,) if label in FOR_SUPERUSERS else (200, 404)), label
        assert client.post(f"{path}add/", {}).status_code in (403, 404), label
    for kind, name in (("assistant/conversation", "conversation_id"), ("batching/batch", "batch_id")):
        for action in ("change", "delete"):
            path = f"/admin/{kind}/{quote(ada.ids[name])}/{action}/"
            assert client.post(path, {"post": "yes"}).status_code == 403
            assert unprivileged.get(path).status_code == 403
    assert ada.rows() == before
