"""The admin of batches: its list, and who may view, cancel, retry and delete."""

import json
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from batching.admin import CANCELLED
from batching.models import Batch, BatchItem
from tests.batching.admin_pages import LIST, log_entries, page_named, read, result_ids, sign_in_with
from tests.batching.conftest import page_of
from tests.batching.factories import QUEUED, background, make, running


def test_the_list_says_what_became_of_a_batch(admin: Client) -> None:
    batch = make({}, total=10, succeeded=8, failed=2, status="expired", owner=User.objects.create_user("محمد"))
    page = admin.get(LIST).content.decode()
    for said in (batch.pk, "expired</span>", "محمد", ">10<", ">2</span>", "2.5 s", ">10 s<", "2026-03-05"):
        assert said in page


def test_a_batch_that_nobody_signed_in_for_is_anonymous(admin: Client) -> None:
    make({})
    assert "anonymous</td>" in admin.get(LIST).content.decode()


def test_an_empty_list_opens(admin: Client) -> None:
    assert result_ids(admin) == set()
    assert "0 batches" in admin.get(LIST).content.decode()


def test_the_list_has_as_many_queries_for_fifty_as_for_one(admin: Client) -> None:
    make({}, owner=User.objects.create_user("first"))
    admin.get(LIST)
    with CaptureQueriesContext(connection) as one:
        admin.get(LIST)
    for number in range(49):
        make({}, {}, owner=User.objects.create_user(f"user{number}"))
    with CaptureQueriesContext(connection) as fifty:
        assert len(result_ids(admin)) == 50
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
        assert result_ids(admin, **query) == found, query


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
        assert result_ids(admin, q=term) == found, term


def test_a_search_looks_within_the_filters(admin: Client) -> None:
    make({"path": "/api/here"})
    expired = make({"path": "/api/here"}, status="expired").pk
    assert result_ids(admin, q="/here", status__exact="expired") == {expired}


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
    assert result_ids(client) == {batch.pk}
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


def test_an_item_that_is_not_there_is_not_found(admin: Client) -> None:
    batch = make({})
    assert admin.get(page_named("item", batch, 1)).status_code == 404
    assert admin.get(page_named("item", Batch(pk="batch_none"), 0)).status_code == 404


def test_a_viewer_sees_batches_and_reads_and_operates_nothing(db: None) -> None:
    viewer = sign_in_with("view_batch")
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
    assert log_entries() == []


def test_a_viewers_page_reads_no_bodies(db: None) -> None:
    viewer, batch = sign_in_with("view_batch"), background(*[{"response_body": "x"}] * 30)
    with CaptureQueriesContext(connection) as queries:
        read(viewer, batch)
    assert not any("response_body" in query["sql"] for query in queries)
    assert len(queries) <= 12


@pytest.mark.parametrize("name", ["cancel", "retry"])
def test_what_is_done_needs_a_post_with_a_token(db: None, name: str) -> None:
    operator = sign_in_with("view_batch", "operate_batch", enforce_csrf_checks=True)
    batch = running(QUEUED)
    assert operator.get(page_named(name, batch)).status_code == 405
    assert operator.post(page_named(name, batch)).status_code == 403
    assert Client().post(page_named(name, batch)).url.startswith("/admin/login/")
    batch.refresh_from_db()
    assert batch.status == "running"


def test_an_operator_cancels_and_it_is_logged(db: None) -> None:
    operator, batch = sign_in_with("view_batch", "operate_batch"), running({}, QUEUED, QUEUED)
    assert page_named("cancel", batch) in read(operator, batch)
    page = operator.post(page_named("cancel", batch), follow=True).content.decode()
    assert CANCELLED in page
    batch.refresh_from_db()
    assert (batch.status, batch.succeeded, batch.cancelled) == ("cancelled", 1, 2)
    assert page_named("cancel", batch) not in page
    assert "Nothing to cancel" in operator.post(page_named("cancel", batch), follow=True).content.decode()
    assert log_entries() == [("operator", "Cancelled.")]


def test_an_operator_retries_in_the_name_of_the_caller(db: None) -> None:
    ada, operator = User.objects.create_user("ada"), sign_in_with("view_batch", "operate_batch")
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
    assert log_entries() == [("operator", f"Retried as {batch.pk}."), ("operator", f"Retries {parent.pk}.")]


@pytest.mark.parametrize("why", ["nothing failed", "still running", "switched off"])
def test_what_cannot_be_retried_says_why(db: None, why: str, settings: Any) -> None:
    settings.BATCH_ENABLED = why != "switched off"
    operator = sign_in_with("view_batch", "operate_batch")
    batch = running(QUEUED) if why == "still running" else background({})
    page = operator.post(page_named("retry", batch), follow=True).content.decode()
    said = {"nothing failed": "Nothing of this batch can be retried", "still running": "ended yet"}
    assert said.get(why, "disabled (BATCH_ENABLED=false)") in unescape(page)
    assert Batch.objects.count() == 1
    assert log_entries() == []
