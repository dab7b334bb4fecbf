"""The admin of batches, through its own pages."""

import csv
import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from html import unescape
from io import StringIO
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from batching.inspection.inspection import ITEMS_SHOWN
from batching.inspection.waterfall import Interval, Scale, Stretch, scale_of, spoken
from batching.models import Batch, BatchItem
from tests.batching.background import content
from tests.batching.conftest import page_of

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


def read(admin: Client, batch: Batch, query: str = "") -> str:
    response = admin.get(page_of(batch) + query)
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


def test_a_large_batch_is_shown_in_parts(admin: Client) -> None:
    batch = make(*({"item_id": f"item-{number}-", "response_body": "x" * 5_000} for number in range(450)))
    page = read(admin, batch)
    assert len(rows(page)) == ITEMS_SHOWN
    assert "Positions 0 to 199 of 450 items." in page
    assert "?first=200" in page
    last = read(admin, batch, "?first=400")
    assert "Positions 400 to 449 of 450 items." in last
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
    assert admin.post(page_of(batch), {"status": "expired"}).status_code == 403
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


# A batch in the background: what its page shows and what may be done there.


def background(*items: dict[str, Any], **fields: Any) -> Batch:
    """Make a background batch that has ended, with counts as its items have it."""
    states = [described(item, BEGAN)["state"] for item in items]
    counts = {"succeeded": states.count("succeeded"), "failed": states.count("failed")}
    origin = {"scheme": "http", "server": ["", 0], "client": ["", 0], "root_path": "", "headers": {}}
    identity = {"authenticator": "", "in_session": False, "passed_csrf": True, "key": None}
    own = {"expires_at": BEGAN + timedelta(days=1), "started_at": BEGAN, "origin": origin, "identity": identity}
    return make(*items, **{**own, **counts, **fields})


def running(*items: dict[str, Any], **fields: Any) -> Batch:
    return background(*items, **{"status": "running", "finished_at": None, "duration": None, **fields})


QUEUED = {"started": None, "finished": None, "status": None, "state": "queued"}


def page_named(name: str, batch: Batch, *more: Any) -> str:
    return reverse(f"admin:batching_batch_{name}", args=[batch.pk, *more])


def signed_in(*permissions: str, **options: Any) -> Client:
    user = User.objects.create_user("operator", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client(**options)
    client.force_login(user)
    return client


def logged() -> list[tuple[str, str]]:
    return [(one.user.get_username(), one.get_change_message()) for one in LogEntry.objects.order_by("pk")]


def test_the_page_of_a_running_batch_says_how_far_it_is(admin: Client) -> None:
    batch = running({}, {}, {"status": 502}, QUEUED)
    page = read(admin, batch)
    for said in (
        "75 %",
        "3</span> of 4 items",
        "502 Bad Gateway",
        'data-count="queued">1<',
        page_named("progress", batch),
    ):
        assert said in page
    assert f'data-socket="/ws/batches/{batch.pk}"' in page
    state = admin.get(page_named("progress", batch)).json()
    assert state["counts"] == batch.counts
    assert state["failures"] == [{"status": 502, "reason": "Bad Gateway", "count": 1}]
    assert (state["status"], state["is_final"]) == ("running", False)


def test_the_page_of_a_batch_that_has_ended_asks_for_nothing_more(admin: Client) -> None:
    batch = background({}, finished_at=BEGAN + timedelta(seconds=2))
    page = read(admin, batch)
    assert "data-socket" not in page
    assert "100 %" in page
    assert "0.5 items/s" in page
    assert admin.get(page_named("progress", batch)).json()["is_final"] is True


def test_a_batch_that_has_not_started_has_no_rate(admin: Client) -> None:
    assert "0 items/s" in read(admin, running(QUEUED, status="queued", started_at=None))


def test_a_page_has_as_many_queries_for_a_thousand_items_as_for_three_hundred(admin: Client) -> None:
    bad = {"status": 502, "error": "No."}
    some, many = (background(*[{}, bad] * count) for count in (150, 500))
    read(admin, some)
    with CaptureQueriesContext(connection) as few:
        read(admin, some)
    with CaptureQueriesContext(connection) as more:
        page = read(admin, many)
    assert len(more) == len(few) <= 11
    assert len(rows(page)) == ITEMS_SHOWN
    assert page.count('<a class="batching-part"') == 50


def test_failures_are_grouped_and_lead_to_their_items(admin: Client) -> None:
    long = "x" * 300
    batch = background(
        {},
        {"item_id": "one", "status": 502, "error": "The model failed."},
        {"item_id": "two", "status": 502, "error": "The model failed."},
        {"item_id": "three", "status": 502, "error": "Another."},
        {"item_id": "four", "status": 400, "error": long + "a"},
        {"item_id": "five", "status": 400, "error": long + "b"},
        {"item_id": "six", "status": None, "state": "interrupted"},
    )
    page = read(admin, batch).partition("What didn't succeed")[2].partition("</section>")[0]
    counts = [int(count) for count in re.findall(r"<b>(\d+)</b>", page)]
    links = [unescape(link) for link in re.findall(r'href="([^"]+)"', page)]
    assert counts == [2, 2, 1, 1]
    found = [re.findall(r"<p>\s*<bdi>(\w+)</bdi>", read(admin, batch, link)) for link in links]
    assert found == [["one", "two"], ["four", "five"], ["three"], ["six"]]


@pytest.mark.parametrize("query", ["?error=%00", "?status=x", "?state=nonsense", "?first=9&last=3", "?last=-1"])
def test_a_choice_that_makes_no_sense_opens(admin: Client, query: str) -> None:
    read(admin, background({}, {}), query)


def test_times_are_distributed(admin: Client) -> None:
    quick, slow = {"duration": 0.003}, {"duration": 0.03, "status": 500}
    page = read(admin, background(*[quick] * 18, *[slow] * 4, {"duration": 5_000.0}, {"started": None}))
    lines = page.partition("How long items took")[2].partition("</section>")[0].split("<li>")[1:]
    assert "2 ms to 5 ms" in lines[0]
    assert "<b>18</b>" in lines[0]
    assert "<b>0</b>" in lines[1]
    assert "20 ms to 50 ms" in lines[3]
    assert "4 failed" in lines[3]
    assert "1000" in lines[-1].replace("16 min 40 s", "1000")
    assert sum(int(count) for line in lines for count in re.findall(r"<b>(\d+)</b>", line)) == 23


def test_a_waterfall_shows_parts_and_comes_closer(admin: Client) -> None:
    items = [{"started": number / 10, "finished": number / 10 + 0.1, "duration": 0.1} for number in range(600)]
    items[300] |= {"status": 500}
    batch = running(*items, *[QUEUED] * 400)
    page = read(admin, batch)
    parts = page.split('<a class="batching-part"')[1:]
    assert len(parts) == 50
    assert "300 to 319" in parts[15]
    assert "1 failed" in parts[15]
    assert "20 open" in parts[49]
    closer = read(admin, batch, "?first=300&last=519")
    assert "The scale begins 30 s after the call." in closer
    assert "300 to 304" in closer.split('<a class="batching-part"')[1]
    closest = read(admin, batch, "?first=300&last=304")
    assert "batching-part" not in closest.partition('id="batching-closer"')[2]
    assert len(rows(closest)) == 5
    assert "waited 30 s, ran 100 ms" in rows(closest)[0]
    bars = [float(x) for x in re.findall(r'batching-running" x="([\d.]+)%', "".join(rows(closest)))]
    assert bars == [0.0, 20.0, 40.0, 60.0, 80.0]


def test_parts_in_which_nothing_ran_are_there(admin: Client) -> None:
    never = {"started": None, "status": 504, "state": "expired"}
    assert "0 to 4" in read(admin, background(*[never] * 250, expired=250))


# An item by itself.


def test_an_item_has_a_page_with_a_command_that_runs_it_again(admin: Client) -> None:
    body = {"message": 'It\'s $HOME `x` \\ "q"\nسلم', "password": "********"}
    headers = {"Accept-Language": "de", "X-Request-ID": "a'b"}
    path = "/api/عربي?q={a,b}&x=[1-2]"
    batch = make({"method": "POST", "path": path, "request_body": body, "request_headers": headers})
    response = admin.get(page_named("item", batch, 0))
    words = arguments(response.context["command"])
    assert words[:3] == ["--globoff", "-X", "POST"]
    assert words[3].isascii()
    assert unquote(words[3]) == f"http://testserver{path}"
    sent = ["Accept-Language: de", "Content-Type: application/json", "X-Request-ID: a'b"]
    assert sorted(words[5:-2:2]) == sent
    assert words[4:-2:2] == ["-H"] * 3
    assert words[-2] == "--data-raw"
    assert json.loads(words[-1]) == body
    assert "put back what is masked" in response.content.decode()


def test_a_body_that_is_no_json_travels_as_it_is(admin: Client) -> None:
    form = {"method": "POST", "request_body": "a=1&b='", "request_headers": {"content-type": "text/plain"}}
    words = arguments(admin.get(page_named("item", make(form), 0)).context["command"])
    assert words[-4:] == ["-H", "content-type: text/plain", "--data-raw", "a=1&b='"]
    words = arguments(admin.get(page_named("item", make({}), 0)).context["command"])
    assert words == ["-X", "GET", "http://testserver/api/x"]


def arguments(command: str) -> list[str]:
    """Return what a shell hands to curl."""
    script = "curl() { printf '%s\\0' \"$@\"; }\n" + command
    return subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]


@pytest.mark.parametrize(
    "item",
    [
        {"path": "//evil.example/", "status": 400, "started": None},
        {"path": "http://evil.example/"},
        {"method": ""},
        {"status": 400, "started": None, "request_body": {"id": "a", "path": "/api/x", "method": "BREW"}},
    ],
)
def test_what_never_was_a_request_has_no_command(admin: Client, item: dict[str, Any]) -> None:
    response = admin.get(page_named("item", make(item), 0))
    assert response.context["command"] is None
    assert "It was refused as it came" in response.content.decode()


def test_an_item_that_is_not_there_is_not_found(admin: Client) -> None:
    batch = make({})
    assert admin.get(page_named("item", batch, 1)).status_code == 404
    assert admin.get(page_named("item", Batch(pk="batch_none"), 0)).status_code == 404


# Who may do what with it.


def test_a_viewer_sees_batches_and_reads_and_operates_nothing(db: None) -> None:
    viewer = signed_in("view_batch")
    batch = running({"request_body": "a secret", "response_body": "an answer"}, {"error": "why", "status": 500})
    page = read(viewer, batch)
    assert "a secret" not in page
    assert "an answer" not in page
    assert "who may view batch items" in page
    assert "<button" not in page.partition('id="content"')[2].partition("batching-range")[0]
    assert viewer.get(page_named("progress", batch)).status_code == 200
    assert viewer.get(page_named("item", batch, 0)).status_code == 403
    for name, *more in (("cancel",), ("retry",), ("download", "csv")):
        assert viewer.post(page_named(name, batch, *more)).status_code == 403
    batch.refresh_from_db()
    assert batch.status == "running"
    assert logged() == []


def test_a_viewers_page_reads_no_bodies(db: None) -> None:
    viewer, batch = signed_in("view_batch"), background(*[{"response_body": "x"}] * 30)
    with CaptureQueriesContext(connection) as queries:
        read(viewer, batch)
    assert not any("response_body" in query["sql"] for query in queries)
    assert len(queries) <= 12


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_what_is_done_needs_a_post_with_a_token(db: None, name: str) -> None:
    operator = signed_in("view_batch", "operate_batch", enforce_csrf_checks=True)
    batch = running(QUEUED)
    assert operator.get(page_named(name, batch)).status_code == 405
    assert operator.post(page_named(name, batch)).status_code == 403
    assert Client().post(page_named(name, batch)).url.startswith("/admin/login/")
    batch.refresh_from_db()
    assert batch.status == "running"


def test_an_operator_cancels_and_it_is_logged(db: None) -> None:
    operator, batch = signed_in("view_batch", "operate_batch"), running({}, QUEUED, QUEUED)
    assert page_named("cancel", batch) in read(operator, batch)
    page = operator.post(page_named("cancel", batch), follow=True).content.decode()
    assert "nothing more of this batch starts" in page
    batch.refresh_from_db()
    assert (batch.status, batch.succeeded, batch.cancelled) == ("cancelled", 1, 2)
    assert page_named("cancel", batch) not in page
    assert "There was nothing to cancel" in operator.post(page_named("cancel", batch), follow=True).content.decode()
    assert logged() == [("operator", "Cancelled.")]


def test_an_operator_retries_in_the_name_of_the_caller(db: None) -> None:
    ada, operator = User.objects.create_user("ada"), signed_in("view_batch", "operate_batch")
    call = json.dumps({"method": "GET", "path": "/api/x", "headers": {}, "body": None, "has_body": False})
    parent = background(
        {},
        {"item_id": "bad", "status": 502, "call": call},
        owner=ada,
        caller=f"user:{ada.pk}",
        retry_before=timezone.now() + timedelta(hours=1),
        priority=0,
    )
    page = operator.post(page_named("retry", parent), follow=True).content.decode()
    batch = Batch.objects.get(parent=parent)
    assert (batch.owner, batch.caller, batch.identity, batch.origin) == (
        ada,
        parent.caller,
        parent.identity,
        parent.origin,
    )
    assert (batch.status, batch.total, batch.priority) == ("queued", 1, 0)
    assert batch.items.get().item_id == "bad"
    assert page_of(parent) in page
    assert page_of(batch) in read(operator, parent)
    assert logged() == [("operator", f"Retried as {batch.pk}."), ("operator", f"Retries {parent.pk}.")]


@pytest.mark.parametrize("why", ["nothing failed", "still running", "switched off"])
def test_what_cannot_be_retried_says_why(db: None, why: str, settings: Any) -> None:
    settings.BATCH_ENABLED = why != "switched off"
    operator = signed_in("view_batch", "operate_batch")
    batch = running(QUEUED) if why == "still running" else background({})
    page = operator.post(page_named("retry", batch), follow=True).content.decode()
    said = {"nothing failed": "Nothing of this batch can be retried", "still running": "ended yet"}
    assert said.get(why, "disabled (BATCH_ENABLED=false)") in unescape(page)
    assert Batch.objects.count() == 1
    assert logged() == []


# Downloads.


@pytest.fixture
def reader(committed: None) -> Client:
    return signed_in("view_batch", "view_batchitem")


def test_a_batch_is_downloaded_as_lines(reader: Client) -> None:
    batch = running({"response_body": {"رد": "مرحبا"}, "item_id": "رد"}, QUEUED, *[{}] * 600)
    response = reader.post(page_named("download", batch, "ndjson"))
    assert response["Content-Type"] == "application/x-ndjson"
    assert response["Content-Disposition"] == f'attachment; filename="{batch.pk}.ndjson"'
    lines = [json.loads(line) for line in content(response).splitlines()]
    assert [line["position"] for line in lines] == list(range(602))
    assert (lines[0]["item_id"], lines[0]["response_body"]) == ("رد", {"رد": "مرحبا"})
    assert datetime.fromisoformat(lines[0]["finished_at"]) == BEGAN + timedelta(seconds=1)
    assert lines[1]["state"] == "queued"
    assert "call" not in lines[0]
    assert logged() == [("operator", "Downloaded as NDJSON.")]


def test_a_batch_is_downloaded_as_a_table_without_formulas(reader: Client) -> None:
    bad = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
    good = ["a=1", "/api/x", "'", "", '"x",;', "سلام"]
    batch = background(
        *({"item_id": text, "error": text, "request_body": text, "method": text[:9]} for text in bad + good)
    )
    response = reader.post(page_named("download", batch, "csv"))
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    text = content(response).decode("utf-8-sig")
    table = list(csv.DictReader(StringIO(text, newline="")))
    assert [row["item_id"] for row in table] == [f"'{text}" for text in bad] + good
    for row in table:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"))
    assert [json.loads(row["request_body"]) for row in table] == bad + good
    assert logged() == [("operator", "Downloaded as CSV.")]


def test_a_download_reads_a_slice_at_a_time(reader: Client) -> None:
    batch = background(*[{}] * 600)
    parts = list(reader.post(page_named("download", batch, "csv")))
    assert len(parts) == 4


def test_there_is_no_other_kind_of_download(reader: Client) -> None:
    assert reader.post(page_named("download", make({}), "exe")).status_code == 404
    assert reader.get(page_named("download", make({}), "csv")).status_code == 405
    assert logged() == []


# The waterfall.


def test_a_bar_waits_and_then_runs() -> None:
    bar = Scale(10).bar(Interval(queued=0, started=2.5, finished=10))
    assert bar.waiting == Stretch("0.000%", "25.000%")
    assert bar.running == Stretch("25.000%", "75.000%")


def test_a_bar_that_never_ran_only_waits() -> None:
    bar = Scale(10).bar(Interval(queued=0, started=None, finished=5))
    assert (bar.waiting, bar.running) == (Stretch("0.000%", "50.000%"), None)


def test_a_bar_that_did_not_wait_only_runs() -> None:
    assert Scale(10).bar(Interval(queued=0, started=0, finished=5)).waiting is None


@pytest.mark.parametrize(
    "span",
    [Interval(0, None, 0), Interval(10, 10, 10), Interval(0, 5, 4), Interval(-5, -3, 20), Interval(0, 9.999, 10)],
)
def test_a_bar_is_seen_and_stays_on_the_scale(span: Interval) -> None:
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
    assert scale_of([Interval(0, 1, 3), Interval(0, None, 7)], length=5).length == 7
    assert scale_of([], length=5).length == 5
    assert scale_of([Interval(0, 0, 0)]).length > 0


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
