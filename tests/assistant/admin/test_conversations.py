"""Conversations in the admin: read, searched, deleted."""

import json
import re

import pytest
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assistant.models import Agent, Conversation, Message
from tests.assistant.admin.pages import agent_form, conversation_page, turn, user_with

pytestmark = pytest.mark.usefixtures("db")


SEARCH = {"tool_call_id": "call_1", "name": "search", "parameters": {"query": "<i>"}}
FOUND = "1. <u>Quark</u> - A particle.\n   https://quark.example/\n2. Curd - A cheese.\n   javascript:alert(1)"
EVENTS = [
    json.dumps(event)
    for event in (
        {"type": "tool_call", **SEARCH},
        {"type": "tool_result", **SEARCH, "result": FOUND, "status": "completed"},
    )
]


def test_a_conversation_is_read_and_not_edited(admin: Client) -> None:
    measured = {"input_tokens": 1200, "output_tokens": 31, "time_to_first_token": 0.5, "processing_time": 2.0}
    message = turn(events=EVENTS, **measured)
    page = admin.get(conversation_page(message)).content.decode()
    assert "&lt;script&gt;" in page
    assert "<script>alert(1)" not in page
    assert "1. &lt;u&gt;Quark" in page
    assert re.findall(r'<a href="([^"]+)"[^>]*><bdi>&lt;u&gt;Quark', page) == ["https://quark.example/"]
    assert 'href="javascript' not in page
    for number in ("1,200 tokens in, 31 out", "first token after 0.50 s", "2.00 s in all", "20.7 tokens/s", message.id):
        assert f"<span>{number}</span>" in page
    assert 'name="_save"' not in page
    assert admin.get("/admin/assistant/conversation/add/").status_code == 403


def test_an_answer_that_failed_says_how(admin: Client) -> None:
    error = {"message": "The model <took> too long.", "code": 504, "retryable": True, "retry_after": None}
    page = admin.get(conversation_page(turn(status="failed", text="", error=error))).content.decode()
    assert "The model &lt;took&gt; too long.</bdi> (504, retryable)" in page
    assert "The answer has no text." in page


def queries(admin: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert admin.get(address).status_code == 200
    return len(queries)


def test_pages_have_as_many_queries_for_fifty_rows_as_for_one(admin: Client) -> None:
    message = turn()
    addresses = ("/admin/assistant/conversation/", conversation_page(message), "/admin/assistant/agent/")
    for address in addresses:
        admin.get(address)  # fills the caches of content types
    one = [queries(admin, address) for address in addresses]
    fields = {"agent": message.agent, "status": "completed", "prompt": "?", "model": "x", "caller": "x"}
    Message.objects.bulk_create(Message(conversation=message.conversation, **fields) for _ in range(60))
    for number in range(49):
        turn()
        Agent.objects.create(pk=f"agent-{number}", name="x")
    assert [queries(admin, address) for address in addresses] == one
    page = admin.get(conversation_page(message)).content.decode()
    assert page.count('<article class="turn" id=') == 50
    assert "Turns 1 to 50 of 61." in page
    assert admin.get(f"{conversation_page(message)}?turns=2").content.decode().count('class="turn" id=') == 11


def test_conversations_are_found_by_their_names_and_by_what_was_said(admin: Client, ada: User) -> None:
    message, other = turn(prompt="Where do zebras live?"), turn(status="failed")
    Conversation.objects.filter(pk=other.conversation_id).update(owner=ada)

    def found(**query: str) -> set[str]:
        return {each.pk for each in admin.get("/admin/assistant/conversation/", query).context["cl"].result_list}

    assert (
        found(q=message.id) == found(q=message.conversation_id) == found(q="zebras live") == {message.conversation_id}
    )
    assert found(q="ada") == found(ending="failed") == {other.conversation_id}
    assert found(q="giraffe") == set()


def test_texts_are_for_who_has_the_right(db: None) -> None:
    message = turn()
    viewer = user_with("view_batch", "view_agent", "view_document", "view_conversation")
    for address in ("/admin/assistant/conversation/", conversation_page(message)):
        assert viewer.get(address).status_code == 403
    assert viewer.get("/admin/assistant/document/add/").status_code == 403
    assert viewer.get("/admin/assistant/document/lookup/?q=x").status_code == 200
    page = viewer.get("/admin/assistant/agent/default/change/")
    assert 'data-conversation="' not in page.content.decode()
    assert 'name="_save"' not in page.content.decode()
    viewer.post("/admin/assistant/agent/default/change/", agent_form())
    assert not Agent.objects.filter(name="Cook").exists()
    assert user_with().get("/admin/assistant/document/lookup/").status_code == 403
    reader = user_with("view_conversation", "view_message")
    assert reader.get(conversation_page(message)).status_code == 200


def test_deleting_counts_what_goes_and_leaves_a_log_entry(admin: Client) -> None:
    message = turn()
    address = conversation_page(message).replace("change", "delete")
    page = admin.get(address).content.decode()
    assert "messages: 1" in page.lower()
    assert message.id not in page
    assert admin.post(address, {"post": "yes"}).status_code == 302
    assert not Message.objects.exists()
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_id) == (DELETION, message.conversation_id)
