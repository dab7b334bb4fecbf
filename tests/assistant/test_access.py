"""Who may call, and what they see."""

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from django.test import Client

from assistant.models import Agent, APIKey, Conversation, Message

pytestmark = pytest.mark.usefixtures("db")

PATHS = ["/api/agents", "/api/conversations", "/api/tools", "/api/conversations/conv_x", "/api/agent/messages/msg_x"]


@pytest.fixture
def production(settings: Any) -> None:
    settings.DEBUG = False


@pytest.mark.parametrize("path", PATHS)
def test_an_anonymous_caller_gets_401_in_production(client: Client, production: None, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["code"]) == (401, 401)
    assert response["WWW-Authenticate"] == "Bearer"


def test_an_anonymous_caller_may_call_in_development(client: Client) -> None:
    assert client.get("/api/agents").status_code == 200


@pytest.mark.parametrize(
    "extra", [{"REMOTE_ADDR": "192.0.2.1"}, {"REMOTE_ADDR": ""}, {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}]
)
def test_development_serves_this_machine_alone(client: Client, extra: dict[str, str]) -> None:
    assert client.get("/api/agents", **extra).status_code == 403


def test_a_key_stands_for_its_user(client: Client, production: None, as_ada: dict[str, str]) -> None:
    assert client.get("/api/agents", headers=as_ada).status_code == 200
    assert APIKey.objects.get().last_used_at is not None


def test_a_session_stands_for_its_user(client: Client, production: None, ada: User) -> None:
    client.force_login(ada)
    assert client.get("/api/agents").status_code == 200


def test_a_session_needs_the_csrf_token(ada: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(ada)
    response = client.post("/api/agent/chat", {"message": "Hi"}, content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (403, 403)


@pytest.mark.parametrize("value", ["Bearer nonsense", "Bearer ", "Bearer sk_\xff", "bearer x y"])
def test_a_wrong_key_is_401_in_development_too(client: Client, value: str) -> None:
    assert client.get("/api/agents", headers={"authorization": value}).status_code == 401


def test_a_revoked_key_stops_working(client: Client, as_ada: dict[str, str]) -> None:
    APIKey.objects.get().revoke()
    assert client.get("/api/agents", headers=as_ada).status_code == 401


def test_the_key_of_an_inactive_user_stops_working(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    ada.is_active = False
    ada.save()
    assert client.get("/api/agents", headers=as_ada).status_code == 401


def test_the_secret_is_not_in_the_database(ada: User) -> None:
    key, secret = APIKey.issue(user=ada, name="test")
    stored = [str(value) for value in APIKey.objects.filter(pk=key.pk).values_list()[0]]
    assert not any(secret[len(key.hint) :] in value for value in stored)


def test_a_command_makes_a_key(client: Client, ada: User, capsys: Any) -> None:
    call_command("create_api_key", "ada", name="laptop")
    secret = capsys.readouterr().out.strip()
    assert client.get("/api/agents", headers={"authorization": f"Bearer {secret}"}).status_code == 200
    assert APIKey.objects.get().name == "laptop"


def test_the_command_names_a_user_who_is_missing() -> None:
    with pytest.raises(CommandError, match="no user named 'eve'"):
        call_command("create_api_key", "eve")


def turn(owner: User | None) -> Message:
    agent = Agent.objects.get(pk="default")
    conversation = Conversation.objects.create(owner=owner, agent=agent, title="Secret")
    return Message.objects.create(
        conversation=conversation,
        agent=agent,
        prompt="Secret",
        text="Secret",
        status="completed",
        caller="x",
        model="x",
    )


def test_what_is_somebody_elses_is_not_there(client: Client, ada: User, as_bob: dict[str, str]) -> None:
    message = turn(ada)
    for path in (
        f"/api/agent/messages/{message.id}",
        f"/api/agent/messages/{message.id}/stream",
        f"/api/conversations/{message.conversation_id}",
    ):
        for headers in (as_bob, {}):
            response = client.get(path, headers=headers)
            assert response.status_code in (403, 404), path  # WSGI refuses streams before it looks
            assert "Secret" not in response.content.decode()
    for headers in (as_bob, {}):
        assert client.delete(f"/api/conversations/{message.conversation_id}", headers=headers).status_code == 404
        assert client.post(f"/api/agent/messages/{message.id}/stop", headers=headers).status_code == 404
        assert client.get("/api/conversations", headers=headers).json()["results"] == []
        chat = {"message": "Hi", "conversation_id": message.conversation_id}
        response = client.post("/api/agent/chat", chat, content_type="application/json", headers=headers)
        assert response.status_code == 404
    assert Conversation.objects.count() == Message.objects.count() == 1


def test_an_owner_sees_and_deletes(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    message = turn(ada)
    where = f"/api/conversations/{message.conversation_id}"
    assert client.get(where, headers=as_ada).json()["messages"][0]["response"] == "Secret"
    listed = client.get("/api/conversations", headers=as_ada).json()["results"]
    assert [each["conversation_id"] for each in listed] == [message.conversation_id]
    assert client.delete(where, headers=as_ada).status_code == 204
    assert client.get(where, headers=as_ada).status_code == 404
    assert not Message.objects.exists()


def test_anonymous_callers_read_by_id_and_list_nothing(client: Client) -> None:
    message = turn(None)
    assert client.get(f"/api/agent/messages/{message.id}").status_code == 200
    assert client.get("/api/conversations").json()["results"] == []


def test_conversations_are_paged_the_newest_first(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    ids = [turn(ada).conversation_id for _ in range(5)]
    seen: list[str] = []
    where = "/api/conversations?page_size=2"
    while where:
        page = client.get(where, headers=as_ada).json()
        seen += [each["conversation_id"] for each in page["results"]]
        where = page["next"]
    assert seen == ids[::-1]


@pytest.mark.parametrize("query", ["page_size=0", "page_size=x", "page_size=201", "page_size=-1", "cursor=x"])
def test_a_page_that_makes_no_sense_is_refused(client: Client, ada: User, as_ada: dict[str, str], query: str) -> None:
    response = client.get(f"/api/conversations?{query}", headers=as_ada)
    assert (response.status_code, list(response.json()["details"])) == (400, [query.partition("=")[0]])


def test_an_agent_for_groups_is_for_their_members(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    group = Group.objects.create(name="research")
    agent = Agent.objects.create(id="inner", name="Inner", is_public=False)
    agent.groups.add(group)

    def agents(headers: dict[str, str]) -> list[str]:
        return [each["agent_id"] for each in client.get("/api/agents", headers=headers).json()["agents"]]

    assert agents({}) == agents(as_ada) == ["default", "researcher"]
    ada.groups.add(group)
    assert agents(as_ada) == ["default", "inner", "researcher"]
    Agent.objects.filter(pk="inner").update(is_enabled=False)
    assert agents(as_ada) == ["default", "researcher"]
