"""The admin, through its own pages."""

import html
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from assistant.models import Agent, Conversation, Document, Message
from assistant.providers.registry import load

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
    return " ".join(re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', content.decode(), re.DOTALL))


def test_an_agent_is_made(admin: Client, server: list[str]) -> None:
    form = agent_form(tools=["search"], temperature="0.5", model="openai:gpt")
    response = admin.post("/admin/assistant/agent/add/", form)
    assert response.status_code == 302, errors(response.content)
    agent = Agent.objects.get(pk="cook")
    assert (agent.tools, agent.temperature, agent.model_name) == (["search"], 0.5, "openai:gpt")


@pytest.fixture
def server(settings: Any) -> Iterator[list[str]]:
    """A model's server; what it lists may be changed."""
    models = ["gpt"]

    class Lists(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.headers["Authorization"] == "Bearer right" else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"data": [{"id": name} for name in models]}).encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Lists) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings.OPENAI_BASE_URL = f"http://127.0.0.1:{listening.server_port}/v1"
        settings.OPENAI_API_KEY = "right"
        load.cache_clear()
        yield models
        listening.shutdown()
        thread.join()
    load.cache_clear()


def said(response: Any) -> str:
    """Return the admin's messages after a form was taken."""
    assert response.status_code == 200
    return " ".join(str(message) for message in response.context["messages"])


def test_the_admin_says_what_speaks_against_a_model(admin: Client, server: list[str], settings: Any) -> None:
    def save(**changes: Any) -> str:
        load.cache_clear()
        form = agent_form(**changes, _continue="on")
        return said(admin.post("/admin/assistant/agent/default/change/", form, follow=True))

    assert "server" not in save(model="openai:gpt")
    server[:] = ["gpt-5", "gpt-5-mini", "llama"]
    assert "doesn't list gpt-6; it lists gpt-5, gpt-5-mini, llama." in save(model="openai:gpt-6")
    # Nothing to ask about.
    assert "server" not in save(model="openai:gpt-6", name="Chef")
    settings.OPENAI_API_KEY = "wrong"
    assert "refuses OPENAI_API_KEY" in save(model="openai:gpt-5")
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    assert "can't be reached" in save(model="openai:llama")
    assert Agent.objects.get(pk="default").model == "openai:llama"
    assert "won't use calculator" in save(model="local:smollm2", tools=["search", "calculator"])


def test_an_agent_that_can_no_longer_answer_says_so(admin: Client, settings: Any) -> None:
    Agent.objects.filter(pk="default").update(tools=["gone", "fetch_url"], model="openai:gpt")
    settings.OPENAI_API_KEY, settings.OPENAI_BASE_URL = "", "https://api.openai.com/v1"
    load.cache_clear()
    for address in ("/admin/assistant/agent/", "/admin/assistant/agent/default/change/"):
        page = html.unescape(admin.get(address).content.decode())
        assert "OPENAI_API_KEY isn't set" in page
        assert "not installed, or switched off: gone, fetch_url." in page
    load.cache_clear()


def test_an_agent_is_tried_by_who_may_ask_it(admin: Client, settings: Any) -> None:
    address = "/admin/assistant/agent/default/change/"
    page = admin.get(address).content.decode()
    assert 'data-api="/api/"' in page
    assert 'data-agent="default"' in page
    Agent.objects.filter(pk="default").update(is_public=False)
    assert "for groups that you aren&#x27;t in" in admin.get(address).content.decode()
    Agent.objects.filter(pk="default").update(is_enabled=False)
    page = admin.get(address).content.decode()
    assert "nobody can ask it" in page
    assert "try.js" not in page
    with override_settings(ROOT_URLCONF="tests.assistant.admin.urls"):
        assert "Try it" not in admin.get(address).content.decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "openai:gpt"}, "OPENAI_API_KEY isn&#x27;t set"),
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


SEARCH = {"tool_call_id": "call_1", "name": "search", "parameters": {"query": "<i>"}}
FOUND = "1. <u>Quark</u> - A particle.\n   https://quark.example/\n2. Curd - A cheese.\n   javascript:alert(1)"
EVENTS = [
    json.dumps(event)
    for event in (
        {"type": "tool_call", **SEARCH},
        {"type": "tool_result", **SEARCH, "result": FOUND, "status": "completed"},
    )
]


def conversation_page(message: Message) -> str:
    return f"/admin/assistant/conversation/{quote(message.conversation_id)}/change/"


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
    assert "The model &lt;took&gt; too long.</bdi> (504, may work later)" in page
    assert "It said nothing." in page


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


def user_with(*permissions: str) -> Client:
    user = User.objects.create_user(f"user-{len(permissions)}", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


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


ADD = "/admin/assistant/document/add/"


def upload(admin: Client, *files: tuple[str, str | bytes], **fields: Any) -> Any:
    uploaded = [SimpleUploadedFile(name, text if isinstance(text, bytes) else text.encode()) for name, text in files]
    return admin.post(ADD, {"uploaded": uploaded, **fields}, follow=True)


def test_a_document_is_added_and_found(admin: Client) -> None:
    form = {"source": "note", "title": "Zebra care", "text": "Brush the zebra daily.", "url": "", "credit": ""}
    assert admin.post(ADD, form).status_code == 302
    assert Document.objects.get().title == "Zebra care"
    found = admin.post("/api/tools/search/execute", {"parameters": {"query": "zebra"}}, content_type="application/json")
    assert found.json()["data"]["results"][0]["title"] == "Zebra care"


def test_files_are_uploaded(admin: Client) -> None:
    line = {"title": "Okapi", "text": "A cousin.", "source": "okapi", "url": "https://okapi.example/"}
    lines = f"{json.dumps(line)}\r\n\n{json.dumps({'title': 'Gnu', 'text': 'An antelope.'})}\n"
    long = "# Zebras\n\n" + "Brush the zebra daily.\n\n" * 400
    response = upload(admin, ("zebra.md", long), ("gnu.txt", "Feed it."), ("all.jsonl", lines), credit="Zoo")
    assert said(response) == "Added 4 documents as 6 passages."
    rows = Document.objects.values_list("source", "title", "credit")
    assert set(rows.exclude(source__contains="#")) == {
        ("okapi", "Okapi", "Zoo"),
        ("all.jsonl:3", "Gnu", "Zoo"),
        ("gnu.txt", "gnu", "Zoo"),
    }
    assert ("zebra.md#1", "Zebras", "Zoo") in rows
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (ADDITION, "zebra.md, gnu.txt, all.jsonl")
    assert entry.get_change_message() == "Added 4 documents as 6 passages."


def test_what_is_there_is_replaced_only_if_that_is_wanted(admin: Client) -> None:
    upload(admin, ("zebra.md", "Brush the zebra daily.\n\n" * 400), ("gnu.txt", "Feed it."))
    again = [("zebra.md", "Brush it weekly."), ("okapi.txt", "Shy.")]
    response = upload(admin, *again)
    assert "zebra.md: there is a document of the source zebra.md already." in errors(response.content)
    assert Document.objects.count() == 4
    assert said(upload(admin, *again, replace="on")) == "Added 2 documents, 1 in place of what was there."
    assert set(Document.objects.values_list("source", flat=True)) == {"zebra.md", "gnu.txt", "okapi.txt"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.pdf", "x", "a.pdf: it isn&#x27;t one of .txt, .md, .jsonl."),
        ("a.txt", b"\xff\xfe\xfa", "a.txt: it isn&#x27;t text in UTF-8."),
        ("a.txt", "a\0b", "a.txt: it is binary."),
        ("a.md", " \n", "a.md: there is no text in it."),
        ("a.jsonl", "\n", "a.jsonl: there is no text in it."),
        ("a.jsonl", "[1]", "a.jsonl, line 1: it isn&#x27;t an object with a title and a text."),
        ("a.jsonl", '{"title": "x", "text": "x"}\n{', "a.jsonl, line 2: it isn&#x27;t valid JSON."),
        ("a.jsonl", '{"title": "x", "text": "\\u0000"}', "a.jsonl, line 1: it isn&#x27;t valid JSON."),
        ("a.jsonl", '{"title": "", "txt": 1}', "a.jsonl, line 1: title: string should have at least 1 character; text"),
        ("a.jsonl", '{"title": "x", "text": "x", "url": "javascript:x"}', "line 1: Enter a valid URL."),
        ("a.jsonl", '{"title": "x", "text": "x", "source": "b.md"}', "the source b.md, as a.jsonl, line 1 has"),
        ("a.jsonl", "{\n" * 30, "And 20 more."),
        ("a.jsonl", '{"title": "x", "text": "x"}\n' * 1_001, "at most 1,000 can be added at once"),
        ("a.txt", "x" * 2_100_000, "These files are larger than"),
    ],
)
def test_of_files_with_a_mistake_nothing_is_added(admin: Client, name: str, text: str | bytes, reason: str) -> None:
    response = upload(admin, (name, text), ("b.md", "Good."))
    assert reason in errors(response.content)
    assert not Document.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "Choose files, or paste a text"),
        ({"text": "x"}, "A text needs a title."),
        ({"title": "x", "text": "x", "url": "javascript:x"}, "Enter a valid URL."),
        ({"title": "x", "text": " \x0b "}, "Choose files, or paste a text"),
    ],
)
def test_of_a_text_with_a_mistake_nothing_is_added(admin: Client, fields: dict[str, str], reason: str) -> None:
    assert reason in errors(admin.post(ADD, fields).content)
    assert not Document.objects.exists()


def test_a_query_shows_what_it_finds_and_why(admin: Client) -> None:
    upload(admin, ("zebra.md", "# Zebra <b>\n\nBrushing <i>zebras</i> daily."), ("gnu.txt", "Feed it, and brush it."))
    with CaptureQueriesContext(connection) as few:
        page = admin.get("/admin/assistant/document/lookup/", {"q": "the zebra BRUSH"}).content.decode()
    titles = re.findall(r"<h2>(\d)\. <bdi>(.*)", page)
    assert titles == [("1", "<mark>Zebra</mark> &lt;b&gt;"), ("2", "gnu")]
    assert "<mark>Brushing</mark> &lt;i&gt;<mark>zebras</mark>&lt;/i&gt; daily." in page.replace("  ", " ")
    assert "2 of 2: <bdi>zebra, brushing, zebras</bdi>" in page
    assert "1 of 2: <bdi>brush</bdi>" in page
    assert re.search(r"Left out: <bdi>the</bdi>", page)
    upload(admin, *((f"zebra-{number}.txt", "A zebra.") for number in range(20)))
    with CaptureQueriesContext(connection) as many:
        page = admin.get("/admin/assistant/document/lookup/", {"q": "the zebra brush"}).content.decode()
    assert len(many) == len(few)
    assert page.count("<h2>") == 10


def test_a_query_that_finds_nothing_says_so(admin: Client) -> None:
    assert "Nothing was found." in admin.get("/admin/assistant/document/lookup/?q=zebra").content.decode()
    page = admin.get("/admin/assistant/document/lookup/?q=%3C%3F%3E").content.decode()
    assert "There is no word in it to look for." in page
