"""The admin, through its own pages."""

import json
import re
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.test import Client

from assistant.models import Agent, Conversation, Document, Message

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def agent_form(**changes: Any) -> dict[str, Any]:
    blank = {"id": "cook", "name": "Cook", "max_output_tokens": 500, "max_tool_rounds": 3, "is_enabled": "on"}
    return {**blank, **changes}


def errors(content: bytes) -> str:
    return " ".join(re.findall(r'<ul class="errorlist"[^>]*>(.*?)</ul>', content.decode(), re.DOTALL))


def test_an_agent_is_made(admin: Client) -> None:
    form = agent_form(tools=["search"], temperature="0.5", model="openai:gpt")
    response = admin.post("/admin/assistant/agent/add/", form)
    assert response.status_code == 302, errors(response.content)
    agent = Agent.objects.get(pk="cook")
    assert (agent.tools, agent.temperature, agent.model_name) == (["search"], 0.5, "openai:gpt")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "gpt"}, "not of the form provider:name"),
        ({"model": "local:/nowhere.gguf"}, "/nowhere.gguf"),
        ({"model": "nobody:x"}, "nobody"),
        ({"tools": ["nothing"]}, "nothing"),
        ({"tools": ["fetch_url"]}, "fetch_url"),
        ({"temperature": "3"}, "less than or equal to 2"),
        ({"max_output_tokens": "0"}, "greater than or equal to 1"),
        ({"id": "no spaces"}, "valid"),
    ],
)
def test_the_admin_says_what_is_wrong_with_an_agent(admin: Client, changes: dict[str, Any], said: str) -> None:
    response = admin.post("/admin/assistant/agent/add/", agent_form(**changes))
    assert response.status_code == 200
    assert said in errors(response.content)
    assert not Agent.objects.filter(name="Cook").exists()


def test_an_agents_id_stays(admin: Client) -> None:
    admin.post("/admin/assistant/agent/default/change/", agent_form(id="other"))
    assert set(Agent.objects.values_list("id", flat=True)) == {"default", "researcher"}
    assert Agent.objects.get(pk="default").name == "Cook"


def test_an_agent_that_has_answered_is_disabled_not_deleted(admin: Client) -> None:
    turn()
    page = admin.post("/admin/assistant/agent/default/delete/", {"post": "yes"})
    assert Agent.objects.filter(pk="default").exists()
    assert "protected" in page.content.decode()


def turn(**fields: Any) -> Message:
    agent = Agent.objects.get(pk="default")
    conversation = Conversation.objects.create(agent=agent, title="<b>Title</b>")
    values = {
        "prompt": "<script>alert(1)</script>",
        "text": "Fine.",
        "status": "completed",
        "model": "x",
        "caller": "x",
    }
    return Message.objects.create(conversation=conversation, agent=agent, **(values | fields))


def test_a_conversation_is_read_and_not_edited(admin: Client) -> None:
    call = {"tool_call_id": "call_1", "name": "search", "parameters": {"query": "<i>"}}
    message = turn(
        events=[
            json.dumps(event)
            for event in (
                {"type": "tool_call", **call},
                {"type": "tool_result", **call, "result": "<u>", "status": "x"},
            )
        ]
    )
    address = f"/admin/assistant/conversation/{quote(message.conversation_id)}/change/"
    page = admin.get(address).content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>alert(1)" not in page
    assert "&lt;u&gt;" in page
    assert 'name="_save"' not in page
    assert admin.get("/admin/assistant/conversation/add/").status_code == 403


def test_the_list_of_conversations_has_as_many_queries_for_fifty_as_for_one(
    admin: Client, django_assert_num_queries: Any
) -> None:
    turn()
    admin.get("/admin/assistant/conversation/")
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as one:
        admin.get("/admin/assistant/conversation/")
    for _ in range(49):
        turn()
    with CaptureQueriesContext(connection) as fifty:
        admin.get("/admin/assistant/conversation/")
    assert len(fifty) == len(one)


def test_a_document_is_added_and_found(admin: Client) -> None:
    form = {"source": "note", "title": "Zebra care", "text": "Brush the zebra daily.", "url": "", "credit": ""}
    assert admin.post("/admin/assistant/document/add/", form).status_code == 302
    assert Document.objects.get().title == "Zebra care"
    found = admin.post("/api/tools/search/execute", {"parameters": {"query": "zebra"}}, content_type="application/json")
    assert found.json()["data"]["results"][0]["title"] == "Zebra care"
