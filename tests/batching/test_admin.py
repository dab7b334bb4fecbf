"""The admin of batches, through its own pages."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from batching.inspection import ITEMS_SHOWN
from batching.models import Batch, BatchItem
from batching.waterfall import Scale, Span, Stretch, scale_of, spoken

LIST = "/admin/batching/batch/"
BEGAN = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture
def admin(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root", password="x"))
    return client


def make(*items: dict[str, Any], **fields: Any) -> Batch:
    """Make a finished batch; of its items, `started` and `finished` are seconds."""
    began = fields.setdefault("created_at", BEGAN)
    ended = {"status": "completed", "finished_at": began + timedelta(seconds=10), "duration": 10.0, "slowest": 2.5}
    batch = Batch.objects.create(**{"total": len(items), "caller": "x", **ended, **fields})
    BatchItem.objects.bulk_create(
        BatchItem(batch=batch, position=position, **described(item, began)) for position, item in enumerate(items)
    )
    return batch


def described(item: dict[str, Any], began: datetime) -> dict[str, Any]:
    item = {"item_id": "a", "method": "GET", "path": "/api/x", "started": 0.0, "finished": 1.0, "status": 200, **item}
    started, finished = item.pop("started"), item.pop("finished")
    item.setdefault(
        "state", "running" if finished is None else "succeeded" if (item["status"] or 500) < 400 else "failed"
    )
    item["queued_at"] = began
    item["started_at"] = None if started is None else began + timedelta(seconds=started)
    item["finished_at"] = None if finished is None else began + timedelta(seconds=finished)
    return item


def change(batch: Batch) -> str:
    return reverse("admin:batching_batch_change", args=[quote(batch.pk)])


def read(admin: Client, batch: Batch, query: str = "") -> str:
    response = admin.get(change(batch) + query)
    assert response.status_code == 200
    return response.content.decode()


def listed(admin: Client, **query: str) -> set[str]:
    response = admin.get(f"{LIST}?{urlencode(query)}")
    assert response.status_code == 200
    return {batch.pk for batch in response.context["cl"].result_list}


def rows(page: str) -> list[str]:
    return page.partition('<ol class="batching-list">')[2].split("<summary>")[1:]


# The list.


def test_the_list_says_what_became_of_a_batch(admin: Client) -> None:
    batch = make({}, total=10, succeeded=8, failed=2, status="expired", owner=User.objects.create_user("محمد"))
    page = admin.get(LIST).content.decode()
    for said in (batch.pk, "expired</span>", "محمد", ">10<", ">2</span>", "2.5 s", ">10 s<", "2026-03-05"):
        assert said in page


def test_a_batch_that_nobody_signed_in_for_is_anonymous(admin: Client) -> None:
    make({})
    assert "anonymous</td>" in admin.get(LIST).content.decode()


def test_an_empty_list_opens(admin: Client) -> None:
    assert listed(admin) == set()
    assert "0 batches" in admin.get(LIST).content.decode()


def test_the_list_has_as_many_queries_for_fifty_as_for_one(admin: Client) -> None:
    make({}, owner=User.objects.create_user("first"))
    admin.get(LIST)
    with CaptureQueriesContext(connection) as one:
        admin.get(LIST)
    for number in range(49):
        make({}, {}, owner=User.objects.create_user(f"user{number}"))
    with CaptureQueriesContext(connection) as fifty:
        assert len(listed(admin)) == 50
    assert len(fifty) == len(one)


def test_the_list_filters_by_state_outcome_time_and_caller(admin: Client) -> None:
    good = make({}, succeeded=1, duration=0.2, owner=User.objects.create_user("ada")).pk
    late = make({}, failed=1, status="expired", duration=30.0).pk
    for query, found in (
        ({"status__exact": "expired"}, {late}),
        ({"outcome": "failures"}, {late}),
        ({"outcome": "successes"}, {good}),
        ({"seconds": "5"}, {late}),
        ({"caller": "anonymous"}, {late}),
        ({"caller": "signed-in"}, {good}),
    ):
        assert listed(admin, **query) == found, query


def test_the_list_sorts_by_each_column_and_shows_each_batch_once(admin: Client) -> None:
    slow, quick = make({}, {}, slowest=2.0).pk, make({}, {}, slowest=1.0).pk
    for column in range(1, 9):
        shown = [batch.pk for batch in admin.get(f"{LIST}?o={column}").context["cl"].result_list]
        assert sorted(shown) == sorted([slow, quick]), column
    by_slowest = admin.get(f"{LIST}?o=6").context["cl"].result_list
    assert [batch.pk for batch in by_slowest] == [quick, slow]


def test_a_search_finds_ids_owners_and_paths(admin: Client) -> None:
    one = make({"path": "/api/tools/search"}, {"path": "/api/tools/search"}, request_id="req-1").pk
    two = make({"path": "/api/عربي?q=50%25"}, owner=User.objects.create_user("ada")).pk
    for term, found in (
        (one, {one}),
        (two[:14], {two}),
        ("req-1", {one}),
        ("ada", {two}),
        ("/tools/", {one}),
        ("TOOLS", {one}),
        ("عربي", {two}),
        ("50%25", {two}),
        ("50_25", set()),
        (" ", {one, two}),
        ("nothing", set()),
    ):
        assert listed(admin, q=term) == found, term


def test_a_search_looks_within_the_filters(admin: Client) -> None:
    make({"path": "/api/here"})
    expired = make({"path": "/api/here"}, status="expired").pk
    assert listed(admin, q="/here", status__exact="expired") == {expired}


def test_the_dates_lead_to_years_months_and_days_that_have_batches(admin: Client) -> None:
    for moment in ("2024-12-31", "2026-01-02", "2026-03-05", "2026-03-29", "2026-03-31"):
        make({}, created_at=datetime.fromisoformat(f"{moment}T12:00Z"))
    assert dates(admin) == ["2024", "2026"]
    assert dates(admin, created_at__year="2026") == ["January 2026", "March 2026"]
    march = {"created_at__year": "2026", "created_at__month": "3"}
    assert dates(admin, **march) == ["March 5", "March 29", "March 31"]
    assert len(listed(admin, **march, created_at__day="29")) == 1
    assert dates(admin, created_at__year="2026", caller="anonymous", q="/api/x") == ["January 2026", "March 2026"]
    assert dates(admin, created_at__year="2025") == []


def dates(admin: Client, **query: str) -> list[str]:
    page = admin.get(f"{LIST}?{urlencode(query)}").content.decode()
    links = re.findall(r"<a [^>]*>([^<]*)</a>", page.partition("toplinks")[2].partition("<form")[0])
    return [link for link in links if not link.startswith("&lsaquo;")]


# One batch.


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
    assert "it was cut" in page
    assert len(page) < 60_000


def test_a_large_batch_is_shown_in_parts_by_one_query(admin: Client) -> None:
    batch = make(*({"item_id": f"item-{number}-", "response_body": "x" * 5_000} for number in range(450)))
    small = make({})
    read(admin, small)  # content types are looked up once a process
    with CaptureQueriesContext(connection) as few:
        read(admin, small)
    with CaptureQueriesContext(connection) as many:
        page = read(admin, batch)
    assert len(many) == len(few)
    assert len(rows(page)) == ITEMS_SHOWN
    assert "Items 1 to 200 of 450." in page
    assert "?first=200" in page
    last = read(admin, batch, "?first=400")
    assert "Items 401 to 450 of 450." in last
    assert "item-449-" in last
    assert "Later ones" not in last


@pytest.mark.parametrize("first", ["450", "99999999", "-1", "x", "²", "9" * 400])
def test_a_part_that_is_not_there_is_an_empty_one_or_the_first(admin: Client, first: str) -> None:
    page = read(admin, make({}), f"?first={first}")
    assert "There is no item from position" in page or len(rows(page)) == 1


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
    assert "Not yet." in second


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


# Who may do what.


def test_batches_are_read_and_not_edited(admin: Client) -> None:
    batch = make({})
    page = read(admin, batch)
    assert 'name="_save"' not in page
    assert admin.get(f"{LIST}add/").status_code == 403
    assert admin.post(change(batch), {"status": "expired"}).status_code == 403
    batch.refresh_from_db()
    assert batch.status == "completed"


def test_who_may_view_batches_reads_them_and_deletes_none(db: None) -> None:
    reader = User.objects.create_user("reader", is_staff=True)
    client = Client()
    client.force_login(reader)
    assert client.get(LIST).status_code == 403
    reader.user_permissions.add(Permission.objects.get(codename="view_batch"))
    batch = make({})
    assert listed(client) == {batch.pk}
    assert "200 OK" in read(client, batch)
    client.post(reverse("admin:batching_batch_delete", args=[quote(batch.pk)]), {"post": "yes"})
    assert Batch.objects.count() == 1


def test_deleting_counts_the_items_and_does_not_read_them(admin: Client) -> None:
    batch = make(*[{}] * 30)
    with CaptureQueriesContext(connection) as queries:
        page = admin.get(reverse("admin:batching_batch_delete", args=[quote(batch.pk)])).content.decode()
    assert "and its 30 items" in page
    assert not any("response_body" in query["sql"] for query in queries)
    admin.post(LIST, {"action": "delete_selected", "_selected_action": [batch.pk], "post": "yes"})
    assert not BatchItem.objects.exists()


def test_a_user_with_batches_can_be_deleted(admin: Client) -> None:
    ada = User.objects.create_user("ada")
    make({}, owner=ada)
    admin.post(f"/admin/auth/user/{ada.pk}/delete/", {"post": "yes"})
    assert not Batch.objects.exists()


# The waterfall.


def test_a_bar_waits_and_then_runs() -> None:
    bar = Scale(10).bar(Span(queued=0, started=2.5, finished=10))
    assert bar.waiting == Stretch("0.000%", "25.000%")
    assert bar.running == Stretch("25.000%", "75.000%")


def test_a_bar_that_never_ran_only_waits() -> None:
    bar = Scale(10).bar(Span(queued=0, started=None, finished=5))
    assert (bar.waiting, bar.running) == (Stretch("0.000%", "50.000%"), None)


def test_a_bar_that_did_not_wait_only_runs() -> None:
    assert Scale(10).bar(Span(queued=0, started=0, finished=5)).waiting is None


@pytest.mark.parametrize(
    "span", [Span(0, None, 0), Span(10, 10, 10), Span(0, 5, 4), Span(-5, -3, 20), Span(0, 9.999, 10)]
)
def test_a_bar_is_seen_and_stays_on_the_scale(span: Span) -> None:
    bar = Scale(10).bar(span)
    stretches = [stretch for stretch in (bar.waiting, bar.running) if stretch]
    assert stretches
    for stretch in stretches:
        x, width = float(stretch.x[:-1]), float(stretch.width[:-1])
        assert x >= 0
        assert width >= 0.3
        assert x + width <= 100.001


@pytest.mark.parametrize(
    ("length", "labels"),
    [
        (0.0021, ["0", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]),
        (1, ["0", "200 ms", "400 ms", "600 ms", "800 ms", "1 s"]),
        (30, ["0", "10 s", "20 s", "30 s"]),
        (200, ["0", "60 s", "2 min", "3 min"]),
        (10 * 86_400, ["0", "48 h", "96 h", "144 h", "192 h", "240 h"]),
    ],
)
def test_a_scale_has_a_few_round_ticks(length: float, labels: list[str]) -> None:
    ticks = Scale(length).ticks()
    assert [tick.label for tick in ticks] == labels
    assert ticks[0].anchor == "start"


def test_a_scale_has_room_for_every_span() -> None:
    assert scale_of([Span(0, 1, 3), Span(0, None, 7)], length=5).length == 7
    assert scale_of([], length=5).length == 5
    assert scale_of([Span(0, 0, 0)]).length > 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.0000123, "0.0123 ms"),
        (0.0421, "42.1 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (12.345, "12.3 s"),
        (119.6, "2 min"),
        (250, "4 min 10 s"),
        (7_260, "2 h 1 min"),
    ],
)
def test_a_duration_is_said_to_three_digits(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
