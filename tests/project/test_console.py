"""The admin's front page, through the admin's client."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from assistant.models import Agent, Conversation, Message
from batching.models import Batch, BatchItem

pytestmark = pytest.mark.usefixtures("db")

ADMIN = "/admin/"


def client(*permissions: str) -> Client:
    """Return a client of a user with these permissions; without any, of a superuser."""
    made = User.objects.create_user if permissions else User.objects.create_superuser
    user: User = made("operator", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    signed_in = Client()
    signed_in.force_login(user)
    return signed_in


def read(reader: Client, path: str = ADMIN) -> str:
    response = reader.get(path)
    assert response.status_code == 200
    return response.content.decode()


def answer(owner: User, **fields: Any) -> Message:
    agent, _ = Agent.objects.get_or_create(pk="cook", name="Cook")
    conversation = Conversation.objects.create(agent=agent, owner=owner, title="Secret title")
    values = {"model": "x", "caller": f"user:{owner.pk}", "status": "completed", "prompt": "Secret", **fields}
    return Message.objects.create(conversation=conversation, agent=agent, text="Secret text", **values)


def batch(**fields: Any) -> Batch:
    now = timezone.now()
    values = {"total": 3, "status": "completed", "finished_at": now, "duration": 7.0, "caller": "x", **fields}
    made = Batch.objects.create(**values)
    values = {"method": "POST", "path": "/api/secret", "started_at": now, "finished_at": now}
    BatchItem.objects.create(batch=made, position=0, state="succeeded", status=200, duration=2.5, **values)
    return made


def populate() -> None:
    """Leave five answers and three batches behind, of which things can be said."""
    omar = User.objects.create_user("عمر")
    answer(omar, processing_time=4.0, time_to_first_token=0.25, input_tokens=1200, output_tokens=34)
    answer(omar, status="failed", error={"message": "The model failed.", "code": 502, "retryable": True})
    answer(omar, status="cancelled")
    answer(omar, status="running")
    answer(omar, created_at=timezone.now() - timedelta(hours=2), processing_time=60.0)
    batch(succeeded=3, slowest=2.5)
    batch(succeeded=1, failed=2, slowest=1.0)
    batch(status="running", finished_at=None, duration=None)


def links(page: str) -> list[tuple[str, int]]:
    """Return the links to lists with the number that each shows."""
    found = re.findall(r'<a href="([^"]+/\?created_at__gte[^"]*)">(.*?)</a>', page, re.DOTALL)
    numbers = [(unescape(link), re.search(r"<b>([\d,]+)</b>", text)) for link, text in found]
    return [(link, int(number[1].replace(",", ""))) for link, number in numbers if number]


def test_the_last_hour_is_told_in_numbers() -> None:
    populate()
    page = " ".join(read(client()).split())
    for said in (
        "<b>4</b> answers",
        "<b>4 s</b> p50 <b>4 s</b> p95",
        "<b>250 ms</b> p50",
        "<b>1,200</b> in <b>34</b> out",
        "<bdi>عمر</bdi>",
        "502 <bdi>The model failed.</bdi>",
        "<b>3</b> batches</a> with <b>9</b> items",
        "<b>7 s</b> p50",
        "<b>2.5 s</b> p50",
        "Running now: 1 with 3 items left",
    ):
        assert said in page, said
    assert "Secret" not in page
    assert "/api/secret" not in page


def test_each_number_leads_to_its_rows() -> None:
    populate()
    reader = client()
    found = links(read(reader, f"{ADMIN}?period=day"))
    assert len(found) == 8
    for link, number in found:
        assert reader.get(link).context["cl"].result_count == number, link
    page = read(reader, f"{ADMIN}?period=day")
    for link in re.findall(r'<th scope="row"><a href="([^"]+)"', page):
        assert reader.get(unescape(link).partition("#")[0]).status_code == 200, link


def test_a_day_and_a_week_have_more() -> None:
    populate()
    reader = client()
    assert "<b>5</b> answers" in read(reader, f"{ADMIN}?period=day")
    assert 'href="?period=week" aria-current="page"' in read(reader, f"{ADMIN}?period=week")
    assert 'href="?period=hour" aria-current="page"' in read(reader, f"{ADMIN}?period=year")


def test_nothing_says_so() -> None:
    page = read(client())
    for said in ("No questions in the last hour.", "No answer is being written."):
        assert said in page
    for said in ("No batches in the last hour.", "No batch is open."):
        assert said in page
    assert "data-chart" not in page


@pytest.mark.parametrize(
    ("permissions", "answers", "callers", "batches"),
    [
        (["view_batch"], False, False, True),
        (["view_message"], True, False, False),
        (["view_message", "view_user"], True, True, False),
        (["view_user"], False, False, False),
    ],
)
def test_people_see_what_they_may(permissions: list[str], answers: bool, callers: bool, batches: bool) -> None:
    populate()
    page = read(client(*permissions))
    assert ('id="console-answers"' in page) == answers
    assert ("عمر" in page) == callers
    assert ('id="console-batches"' in page) == batches
    assert ('class="console"' in page) == (answers or batches)


def test_the_page_has_as_many_queries_for_many_rows_as_for_few() -> None:
    reader = client()
    populate()
    read(reader)
    with CaptureQueriesContext(connection) as few:
        read(reader)
    for number in range(20):
        user = User.objects.create_user(f"user{number}")
        answer(user, status="failed", error={"message": "No.", "code": 502, "retryable": True})
        batch(failed=1, slowest=number, status="running", finished_at=None)
    with CaptureQueriesContext(connection) as many:
        read(reader)
    assert len(many) == len(few) <= 20


def test_answers_are_listed_without_their_texts() -> None:
    populate()
    reader = client("view_message")
    page = read(reader, "/admin/assistant/message/")
    assert "عمر" in page
    assert "Secret" not in page
    newest = Message.objects.order_by("-created_at").first()
    assert newest
    assert "Secret" not in read(reader, f"/admin/assistant/message/{quote(newest.pk)}/change/")
    assert reader.get("/admin/assistant/message/add/").status_code == 403
