"""The items of a batch on its page."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from batching.inspection.item_list import MAX_ITEMS
from tests.batching.admin_pages import LIST, read, rows
from tests.batching.factories import background, make


def test_a_batch_shows_its_items_in_order(admin: Client) -> None:
    batch = make(
        {"method": "POST", "path": "/api/one"},
        {"path": "/api/two", "status": 404, "error": "Not found.", "started": 0.5, "finished": 1.25},
        {"path": "/api/three", "status": 504, "error": "Not started: its time was over", "started": None},
    )
    first, second, third = rows(read(admin, batch))
    for said in ("POST", "/api/one", "batching-good", "200 OK"):
        assert said in first
    for said in ("/api/two", "batching-warning", "404 Not Found", "750 ms", "waited 500 ms, ran 750 ms", "Not found."):
        assert said in second
    for said in ("/api/three", "batching-bad", "504 Gateway Timeout", "never ran", "Not started"):
        assert said in third
    assert 'class="batching-running" x' not in third


def test_what_came_from_outside_is_shown_as_text(admin: Client) -> None:
    hostile = "</pre><script>alert(1)</script>"
    batch = make(
        {
            "item_id": hostile,
            "method": "<b>",
            "path": hostile,
            "error": hostile,
            "details": {hostile: hostile},
            "depends_on": [hostile],
            "encoding": "<i>",
            "request_headers": {hostile: hostile},
            "response_headers": {hostile: hostile},
            "request_body": hostile,
            "response_body": {hostile: [hostile]},
        },
        owner=User.objects.create_user("<u>ada"),
        request_id=hostile,
        client_address="<s>",
        idempotency_key=hostile,
    )
    for page in (read(admin, batch), admin.get(LIST).content.decode()):
        assert "alert(1)" not in page.replace("&lt;script&gt;alert(1)", "")
        for tag in ("<b>&lt;b&gt;</b>", "<u>", "<i>", "<s>"):
            assert tag not in page.replace("<b>&lt;b&gt;</b>", "")


def test_nothing_on_the_page_needs_an_exception_from_a_strict_content_security_policy(admin: Client) -> None:
    page = "".join(rows(read(admin, make({}, {"started": None, "status": 400}))))
    assert " style=" not in page
    assert "<style" not in page
    assert "<script" not in page.split("submit-row")[0]


def test_bodies_are_indented_json_in_their_own_letters(admin: Client) -> None:
    page = read(admin, make({"request_body": {"رسالة": ["مرحبا", 1.5, None]}, "response_body": "سلام\nسطر"}))
    assert "{\n  &quot;رسالة&quot;: [\n    &quot;مرحبا&quot;,\n    1.5,\n    null\n  ]\n}</pre>" in page
    assert 'dir="auto">سلام\nسطر</pre>' in page


def test_a_false_or_zero_body_is_shown(admin: Client) -> None:
    page = read(admin, make({"request_body": False, "response_body": 0}))
    assert ">false</pre>" in page
    assert ">0</pre>" in page


def test_long_bodies_and_paths_are_cut_and_say_so(admin: Client) -> None:
    batch = make({"path": "/api/" + "x" * 5_000, "response_body": "y" * 60_000, "truncated": True})
    page = read(admin, batch)
    assert "the first 2000 of 5005 characters" in page
    assert "the first 20000 of 60000 characters" in page
    assert "is stored truncated" in page
    assert len(page) < 60_000


def test_a_large_batch_is_shown_in_parts(admin: Client) -> None:
    batch = make(*({"item_id": f"item-{number}-", "response_body": "x" * 5_000} for number in range(450)))
    page = read(admin, batch)
    assert len(rows(page)) == MAX_ITEMS
    assert "Positions 0 to 199 of 450 items." in page
    assert "?first=200" in page
    last = read(admin, batch, "?first=400")
    assert "Positions 400 to 449 of 450 items." in last
    assert "item-449-" in last
    assert ">Later<" not in last


@pytest.mark.parametrize("first", ["450", "99999999", "-1", "x", "²", "9" * 400])
def test_a_part_that_is_not_there_is_an_empty_one_or_the_first(admin: Client, first: str) -> None:
    page = read(admin, make({}), f"?first={first}")
    assert "There are no items from position" in page or len(rows(page)) == 1


def test_a_batch_without_items_says_so(admin: Client) -> None:
    assert "No items are stored." in read(admin, make(total=3))


def test_a_running_batch_shows_what_is_done_and_what_goes_on(admin: Client) -> None:
    now = timezone.now()
    batch = make(
        {"started": 1.0, "finished": None, "status": None},
        {"started": None, "finished": None, "status": None, "state": "queued"},
        created_at=now - timedelta(seconds=60),
        status="running",
        finished_at=None,
        duration=None,
        slowest=None,
        lease_expires_at=now + timedelta(seconds=30),
    )
    first, second = rows(read(admin, batch))
    assert "running</span>" in first
    assert "waited 1 s, has run 59" in first
    assert "queued</span>" in second
    assert "has waited 60" in second
    assert "No response yet." in second


def test_a_batch_whose_process_is_gone_does_not_seem_to_run(admin: Client) -> None:
    began = timezone.now() - timedelta(days=3)
    lease = began + timedelta(seconds=60)
    batch = make(
        {"finished": None, "status": None}, created_at=began, status="running", finished_at=None, lease_expires_at=lease
    )
    assert "running, lease over" in admin.get(LIST).content.decode()
    assert "has run 60 s" in read(admin, batch)


def test_an_interrupted_or_cancelled_item_says_so(admin: Client) -> None:
    batch = make({"status": None, "state": "interrupted"}, {"status": 503, "state": "cancelled"}, {"status": 299})
    first, second, third = rows(read(admin, batch))
    assert "interrupted</span>" in first
    assert "cancelled, 503 Service Unavailable</span>" in second
    assert "299</span>" in third


@pytest.mark.parametrize("query", ["?error=%00", "?status=x", "?state=nonsense", "?first=9&last=3", "?last=-1"])
def test_a_choice_that_makes_no_sense_opens(admin: Client, query: str) -> None:
    read(admin, background({}, {}), query)
