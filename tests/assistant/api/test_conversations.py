"""Conversations: searched, renamed, exported."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from assistant.models import Agent, Conversation, Message

pytestmark = pytest.mark.usefixtures("db")

CALL = '{"type": "tool_call", "tool_call_id": "call_0", "name": "search", "parameters": {"query": "Käfer"}}'


def said(owner: User | None, prompt: str, text: str = "", title: str = "", **more: Any) -> Conversation:
    agent = Agent.objects.get(pk="default")
    conversation = Conversation.objects.create(owner=owner, agent=agent, title=title or prompt)
    values = {"status": "completed", "caller": "x", "model": "x", "prompt": prompt, "text": text, **more}
    Message.objects.create(conversation=conversation, agent=agent, **values)
    return conversation


def found(client: Client, query: str, headers: dict[str, str]) -> list[str]:
    response = client.get("/api/conversations", {"q": query}, headers=headers)
    assert response.status_code == 200, response.content
    return [each["title"] for each in response.json()["results"]]


def test_each_word_has_to_be_somewhere_in_it(client: Client, ada: User, bob: User, as_ada: dict[str, str]) -> None:
    said(ada, "What is a quark?", "A particle with 100% charm.", title="Physics")
    said(ada, "What is a lark?", "A bird.", title="طيور")
    said(bob, "What is a quark?")
    assert found(client, "QUARK", as_ada) == ["Physics"]
    assert found(client, "physics charm", as_ada) == ["Physics"]
    assert found(client, "physics bird", as_ada) == []
    assert found(client, "طيور", as_ada) == ["طيور"]
    assert found(client, "100%", as_ada) == ["Physics"]
    assert found(client, "_ark", as_ada) == []
    assert found(client, " ", as_ada) == ["طيور", "Physics"]
    assert found(client, "quark", {}) == []


@pytest.mark.parametrize("query", ["x" * 101, "a\x00b"])
def test_a_search_that_makes_no_sense_is_refused(client: Client, as_ada: dict[str, str], query: str) -> None:
    response = client.get("/api/conversations", {"q": query}, headers=as_ada)
    assert (response.status_code, list(response.json()["details"])) == (400, ["q"])


def renamed(client: Client, conversation: Conversation, body: Any, headers: dict[str, str]) -> Any:
    where = f"/api/conversations/{conversation.pk}"
    return client.patch(where, body, content_type="application/json", headers=headers)


def test_a_conversation_is_renamed_and_keeps_its_place(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    conversation = said(ada, "Hi")
    response = renamed(client, conversation, {"title": " أسماء "}, as_ada)
    assert (response.status_code, response.json()["title"]) == (200, "أسماء")
    before = conversation.updated_at
    conversation.refresh_from_db()
    assert (conversation.title, conversation.updated_at) == ("أسماء", before)


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": " "}, {"title": 5}, {"title": "x" * 201}, {"name": "x"}])
def test_a_name_that_cannot_be_is_refused(client: Client, ada: User, as_ada: dict[str, str], body: Any) -> None:
    conversation = said(ada, "Hi")
    assert renamed(client, conversation, body, as_ada).status_code == 400
    conversation.refresh_from_db()
    assert conversation.title == "Hi"


def test_an_export_reads_as_a_conversation(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    conversation = said(ada, "Any beetles?", "Many.", title="Käfer & more", events=[CALL, 5])
    response = client.get(f"/api/conversations/{conversation.pk}/export", headers=as_ada)
    assert response["Content-Type"] == "text/markdown; charset=utf-8"
    assert response["Content-Disposition"] == "attachment; filename*=utf-8''k%C3%A4fer-more.md"
    text = response.content.decode()
    asked = conversation.messages.get().created_at
    assert text == (
        f"# Käfer & more\n\n## You, {asked:%Y-%m-%d %H:%M} UTC\n\nAny beetles?\n\n## Assistant\n\n"
        'Tool `search`:\n\n```json\n{"query": "Käfer"}\n```\n\nMany.\n'
    )


def test_an_export_tells_how_an_answer_ended(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    error = {"message": "The model failed.", "code": 502}
    conversation = said(ada, "Hi", "Half an", status="failed", error=error)
    agent = Agent.objects.get(pk="default")
    conversation.messages.create(agent=agent, status="cancelled", caller="x", model="x", prompt="Again", text="No")
    text = client.get(f"/api/conversations/{conversation.pk}/export", headers=as_ada).content.decode()
    assert "Half an\n\n*The model failed.*\n" in text
    assert text.endswith("No\n\n*Cancelled.*\n")


def test_an_export_as_json_is_the_conversation(client: Client, ada: User, as_ada: dict[str, str]) -> None:
    conversation = said(ada, "Hi", "Hello", title="...")
    where = f"/api/conversations/{conversation.pk}"
    response = client.get(f"{where}/export?format=json", headers=as_ada)
    assert response["Content-Disposition"] == f'attachment; filename="{conversation.pk}.json"'
    assert response.json() == client.get(where, headers=as_ada).json()
    assert client.get(f"{where}/export?format=pdf", headers=as_ada).status_code == 400


def test_what_is_somebody_elses_is_neither_renamed_nor_exported(
    client: Client, ada: User, as_bob: dict[str, str]
) -> None:
    conversation = said(ada, "Secret")
    for headers in (as_bob, {}):
        assert renamed(client, conversation, {"title": "Mine"}, headers).status_code == 404
        response = client.get(f"/api/conversations/{conversation.pk}/export", headers=headers)
        assert response.status_code == 404
        assert b"Secret" not in response.content
    conversation.refresh_from_db()
    assert conversation.title == "Secret"
