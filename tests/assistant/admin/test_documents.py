"""Documents in the admin: uploaded, replaced, looked up."""

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from assistant.models import Document
from tests.assistant.admin.pages import errors, shown_messages

pytestmark = pytest.mark.usefixtures("db")


ADD = "/admin/assistant/document/add/"
FILES_OR_TEXT = "Choose files or paste a text"


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
    added = "Added 4 documents as 6 passages."
    assert shown_messages(response) == added
    rows = Document.objects.values_list("source", "title", "credit")
    assert set(rows.exclude(source__contains="#")) == {
        ("okapi", "Okapi", "Zoo"),
        ("all.jsonl:3", "Gnu", "Zoo"),
        ("gnu.txt", "gnu", "Zoo"),
    }
    assert ("zebra.md#1", "Zebras", "Zoo") in rows
    entry = LogEntry.objects.get()
    assert (entry.action_flag, entry.object_repr) == (ADDITION, "zebra.md, gnu.txt, all.jsonl")
    assert entry.get_change_message() == added


def test_what_is_there_is_replaced_only_if_that_is_wanted(admin: Client) -> None:
    upload(admin, ("zebra.md", "Brush the zebra daily.\n\n" * 400), ("gnu.txt", "Feed it."))
    again = [("zebra.md", "Brush it weekly."), ("okapi.txt", "Shy.")]
    response = upload(admin, *again)
    assert "zebra.md: the source zebra.md is stored already." in errors(response.content)
    assert Document.objects.count() == 4
    assert shown_messages(upload(admin, *again, replace="on")) == "Added 2 documents, 1 of them replaced."
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
        ("a.jsonl", '{"title": "x", "text": "x", "source": "b.md"}', "its source b.md is also that of a.jsonl, line 1"),
        ("a.jsonl", "{\n" * 30, "And 20 more."),
        ("a.jsonl", '{"title": "x", "text": "x"}\n' * 1_001, "add at most 1,000 at once"),
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
        ({}, FILES_OR_TEXT),
        ({"text": "x"}, "A text needs a title."),
        ({"title": "x", "text": "x", "url": "javascript:x"}, "Enter a valid URL."),
        ({"title": "x", "text": " \x0b "}, FILES_OR_TEXT),
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
    assert re.search(r"Ignored: <bdi>the</bdi>", page)
    upload(admin, *((f"zebra-{number}.txt", "A zebra.") for number in range(20)))
    with CaptureQueriesContext(connection) as many:
        page = admin.get("/admin/assistant/document/lookup/", {"q": "the zebra brush"}).content.decode()
    assert len(many) == len(few)
    assert page.count("<h2>") == 10


def test_a_query_that_finds_nothing_says_so(admin: Client) -> None:
    assert "Nothing was found." in admin.get("/admin/assistant/document/lookup/?q=zebra").content.decode()
    page = admin.get("/admin/assistant/document/lookup/?q=%3C%3F%3E").content.decode()
    assert "The query has no word to search for." in page
