"""What is recorded, and what of it a caller may read."""

from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batching.api import progress
from batching.models import Batch, BatchItem
from batching.records import writer
from batching.records.masking import MASK
from batching.records.record import Record
from batching.signals import batch_finished, item_finished
from tests.batching.admin_pages import page_named
from tests.batching.background import accept, accepted, content, drain, results
from tests.batching.conftest import Send, answers, item, page_of, until, wsgi
from tests.batching.factories import background, make
from tests.host import views


def test_a_batch_is_recorded_with_all_that_is_known(send: Send) -> None:
    requests = [
        item("/api/echo?q=1", "POST", id="a", body={"x": 1}, headers={"Prefer": "y"}),
        item("/api/answering/house", id="b", depends_on=["a"]),
        item("/api/echo", id="c", depends_on=["b"]),
    ]
    response = send("POST", "/api/batch", {"requests": requests})
    batch = Batch.objects.get(pk=response.json()["batch_id"])
    assert (batch.status, batch.counts) == ("completed", {"total": 3, "succeeded": 1, "failed": 2})
    assert batch.duration == response.json()["total_processing_time"]
    assert batch.client_address == "127.0.0.1"
    assert batch.lease_expires_at is None
    first, second, third = batch.items.all()
    assert (first.item_id, first.position, first.state, first.status) == ("a", 0, "succeeded", 200)
    assert (first.method, first.path, first.request_body) == ("POST", "/api/echo?q=1", {"x": 1})
    assert first.request_headers == {"Prefer": "y"}
    assert first.response_body["data"] == {"x": 1}
    assert (second.state, second.status, second.error, second.details) == ("failed", 409, "No.", {"a": ["b"]})
    assert (third.state, third.status, third.error) == ("failed", 424, "Failed dependency: b")
    assert (third.started_at, third.depends_on) == (None, ["b"])
    assert batch.created_at == first.queued_at
    assert first.queued_at < first.started_at < first.finished_at <= second.started_at < second.finished_at
    assert batch.finished_at >= third.finished_at
    assert abs(first.duration - (first.finished_at - first.started_at).total_seconds()) < 0.001
    assert batch.slowest == max(first.duration, second.duration)


def test_it_is_there_before_the_first_item_runs(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(sender: Any, **kwargs: Any) -> None:
        seen.append((Batch.objects.get().status, list(BatchItem.objects.values_list("state", flat=True))))

    monkeypatch.setattr("tests.host.views.lines", look)
    from django.core.signals import request_started

    from wire.asgi.handler import InnerHandler

    request_started.connect(look, sender=InnerHandler)
    try:
        send("POST", "/api/batch", {"requests": [item("/api/echo")]})
    finally:
        request_started.disconnect(look, sender=InnerHandler)
    assert seen == [("running", ["queued"])]


def test_credentials_are_masked(send: Send) -> None:
    body = {"password": "p", "deep": [{"api_key": "k"}], "message": "m"}
    requests = [
        item("/api/echo?token=t&a=1", "POST", id="a", body=body),
        item("/api/answering/secrets", id="b"),
        item("/api/echo", id="c", headers={"Authorization": "Bearer x"}),
    ]
    response = send("POST", "/api/batch", {"requests": requests})
    assert answers(response)[1]["body"]["token"] == "t0psecret"
    first, second, third = BatchItem.objects.all()
    assert first.path == f"/api/echo?token={MASK}&a=1"
    assert first.request_body == {"password": MASK, "deep": [{"api_key": MASK}], "message": "m"}
    assert first.response_body["data"] == first.request_body
    assert second.response_body == {"token": MASK, "usage": {"input_tokens": 3}, "a": [{"api_key": MASK}]}
    assert third.request_headers == {"Authorization": MASK}


SECRETS = {"token": "t0psecret", "usage": {"input_tokens": 3}, "a": [{"api_key": "k"}]}
MASKED = {"token": MASK, "usage": {"input_tokens": 3}, "a": [{"api_key": MASK}]}


@pytest.mark.parametrize(
    ("store", "asked", "answered"),
    [("masked", {"password": MASK}, MASKED), ("full", {"password": "p"}, SECRETS), ("off", None, None)],
)
def test_the_project_says_what_is_kept(send: Send, settings: Any, store: str, asked: Any, answered: Any) -> None:
    settings.BATCH_STORE_BODIES = store
    requests = [item("/api/echo", "POST", id="a", body={"password": "p"}), item("/api/answering/secrets", id="b")]
    first, second = answers(send("POST", "/api/batch", {"requests": requests}))
    assert (first["body"]["data"], second["body"]) == ({"password": "p"}, SECRETS)
    rows = list(BatchItem.objects.all())
    assert (rows[0].request_body, rows[1].response_body) == (asked, answered)
    assert rows[0].path == "/api/echo"


def test_without_bodies_an_idempotent_call_is_still_answered_again(send: Send, settings: Any) -> None:
    settings.BATCH_STORE_BODIES = "off"
    body, key = {"requests": [item("/api/answering/secrets", id="a")]}, {"Idempotency-Key": "k"}
    send("POST", "/api/batch", body, headers=key)
    again = send("POST", "/api/batch", body, headers=key)
    assert again["Idempotency-Replayed"] == "true"
    assert answers(again)[0]["body"] == SECRETS
    assert BatchItem.objects.get().request_body is None


def test_without_bodies_the_results_of_a_background_batch_are_there(committed: None, settings: Any) -> None:
    settings.BATCH_STORE_BODIES = "off"
    batch = accepted(accept(wsgi, [item("/api/echo", "POST", id="a", body={"x": 1})]))
    drain()
    [line] = results(wsgi, batch)
    assert line["body"]["data"] == {"x": 1}
    assert batch.items.get().request_body is None


def test_what_a_caller_fetches_later_is_whole_and_as_it_was(send: Send, settings: Any) -> None:
    settings.BATCH_STORED_BODY_BYTES = 100
    requests = [item(f"/api/answering/{what}", id=what) for what in ("whole", "secrets", "half", "nested")]
    live = send("POST", "/api/batch", {"requests": requests}, headers={"Idempotency-Key": "k"})
    replay = send("POST", "/api/batch", {"requests": requests}, headers={"Idempotency-Key": "k"})
    assert answers(live)[0]["body"] == views.WHOLE
    assert replay.json() == live.json()
    batch = accepted(accept(send, requests))
    drain()
    lines = results(send, batch)
    assert [line["body"] for line in lines] == [answer["body"] for answer in answers(live)]
    assert lines[0]["headers"]["Location"] == "/api/x?token=t0psecret"


@pytest.mark.parametrize(
    ("store", "seen", "unseen"),
    [("masked", ["0.21", "Hi", MASK], "t0psecret"), ("full", ["t0psecret"], "?token=t0psecret"), ("off", [], "0.21")],
)
def test_other_eyes_see_it_without_credentials(
    committed: None, settings: Any, monkeypatch: pytest.MonkeyPatch, store: str, seen: list[str], unseen: str
) -> None:
    monkeypatch.setattr(views, "WHOLE", {**views.WHOLE, "text": ""})
    settings.BATCH_STORE_BODIES = store
    batch = accepted(accept(wsgi, [item("/api/answering/whole", id="a")]))
    drain()
    admin = Client()
    admin.force_login(User.objects.create_superuser("root"))
    pages = [admin.get(page_of(batch)), admin.get(page_named("item", batch, 0))]
    downloads = [admin.post(page_named("download", batch, kind)) for kind in ("csv", "ndjson")]
    for text in [*(page.content for page in pages), *map(content, downloads)]:
        assert all(one in text.decode() for one in seen)
        assert unseen not in text.decode()


def test_an_error_is_shown_without_credentials(admin: Client) -> None:
    batch = make({"status": 400, "error": "It was sent to https://h/?token=t0psecret"}, failed=1)
    assert "t0psecret" not in admin.get(page_of(batch)).content.decode()
    assert MASK in admin.get(page_of(batch)).content.decode()


def test_the_admin_does_not_read_what_it_cannot_show(admin: Client) -> None:
    batch = make({"response_body": "y" * 150_000})
    assert "Not shown: 150,002 characters" in admin.get(page_of(batch)).content.decode()
    assert "yyyy" in admin.get(page_named("item", batch, 0)).content.decode()


def test_long_results_are_read_a_few_at_a_time(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SLICE_CHARS", 1_000)
    batch = background(*[{"response_body": "y" * size} for size in (5_000, 10, 10, 980, 10)])
    slices, after = [], -1
    while rows := progress.lines(batch.pk, None, after):
        after = rows[-1][0]
        slices.append(len(rows))
    assert slices == [1, 2, 2]


def test_an_answer_beyond_the_limit_fails_its_item(send: Send, settings: Any) -> None:
    settings.BATCH_ITEM_MAX_BYTES = 50_000
    requests = [item("/api/answering/large", id="a"), item("/api/echo", id="b")]
    first, second = answers(send("POST", "/api/batch", {"requests": requests}))
    assert (first["status"], second["status"]) == (502, 200)
    assert "more than 50000 bytes" in first["error"]
    batch = accepted(accept(send, requests))
    drain()
    assert [(one["status"], one.get("error")) for one in results(send, batch)] == [(502, first["error"]), (200, None)]
    assert batch.items.get(item_id="a").attempts == 1


def test_what_no_database_can_hold_is_recorded_all_the_same(send: Send) -> None:
    requests = [
        item("/api/answering/half", id="a"),
        item("/api/answering/long", id="b"),
        item("/api/answering/deep", id="c"),
    ]
    assert {one["status"] for one in answers(send("POST", "/api/batch", {"requests": requests}))} == {200}
    assert BatchItem.objects.get(item_id="a").response_body == {"a": "\ufffd \ufffd"}
    assert BatchItem.objects.filter(state="succeeded").count() == 3


def test_long_bodies_are_cut_and_marked(send: Send, settings: Any) -> None:
    settings.BATCH_STORED_BODY_BYTES = 100
    requests = [item("/api/answering/large", id="a"), item("/api/echo/x", "POST", id="b", body="y" * 200)]
    large, _ = answers(send("POST", "/api/batch", {"requests": requests}))
    assert len(large["body"]["text"]) == 100_000
    first, second = BatchItem.objects.all()
    assert (first.truncated, len(first.response_body), first.response_body[:10]) == (True, 100, '{"text": "')
    assert (second.truncated, second.request_body) == (True, "y" * 100)


def test_an_item_that_is_none_is_recorded_as_it_came(send: Send) -> None:
    send("POST", "/api/batch", {"requests": [5, {"id": "x", "path": "/api/echo", "token": "t"}]})
    first, second = BatchItem.objects.all()
    assert (first.request_body, first.method, first.path) == (5, "", "")
    assert (second.request_body, second.path) == ({"id": "x", "path": "/api/echo", "token": MASK}, "/api/echo")


def test_the_number_of_queries_does_not_grow_with_the_items(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this thread, so that its queries can be counted.
    monkeypatch.setattr(writer, "write", lambda job, seconds: job())
    counts = []
    for size in (1, 10):
        with CaptureQueriesContext(connection) as queries:
            Client().post(
                "/api/batch",
                {"requests": [item("/api/echo", id=str(n)) for n in range(size)]},
                content_type="application/json",
            )
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_a_database_that_fails_refuses_the_batch(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise DatabaseError("/srv/secret")

    monkeypatch.setattr(Record, "open", fail)
    response = send("POST", "/api/batch", {"requests": [item("/api/groups", "POST", body={"name": "a"})]})
    assert (response.status_code, response["Retry-After"]) == (503, "5")
    assert "secret" not in response.content.decode()
    assert send("GET", "/api/groups").json() == {"names": []}


def test_answers_are_the_callers_even_if_they_cannot_be_stored(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise DatabaseError("/srv/secret")

    monkeypatch.setattr(Record, "close", fail)
    assert answers(send("POST", "/api/batch", {"requests": [item("/api/echo")]}))[0]["status"] == 200


def test_observers_are_told(send: Send) -> None:
    told: list[Any] = []

    def on_item(sender: Any, batch: Batch, item: BatchItem, **kwargs: Any) -> None:
        told.append((item.item_id, item.state))

    def on_batch(sender: Any, batch: Batch, **kwargs: Any) -> None:
        told.append(batch.status)
        raise RuntimeError("an observer's own mistake")

    item_finished.connect(on_item)
    batch_finished.connect(on_batch)
    try:
        send("POST", "/api/batch", {"requests": [item("/api/echo", id="a"), item("/api/nothing", id="b")]})
        until(lambda: len(told) == 3)
    finally:
        item_finished.disconnect(on_item)
        batch_finished.disconnect(on_batch)
    assert told == [("a", "succeeded"), ("b", "failed"), "completed"]


# Reading.


@pytest.fixture
def ada(committed: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    return client


def post(client: Client, *items: Any) -> str:
    batch_id: str = client.post("/api/batch", {"requests": list(items)}, content_type="application/json").json()[
        "batch_id"
    ]
    return batch_id


def test_a_caller_reads_one_of_his_batches(ada: Client) -> None:
    batch_id = post(ada, item("/api/echo", id="a"), item("/api/nothing", id="b"), 5)
    body = ada.get(f"/api/batch/{batch_id}").json()
    assert (body["batch_id"], body["status"], body["counts"]["total"]) == (batch_id, "completed", 3)
    first, second, third = body["items"]
    assert (first["id"], first["status"], first["state"], first["body"]["path"]) == ("a", 200, "succeeded", "/api/echo")
    assert (second["status"], second["error"], "body" in second) == (404, "Not found.", False)
    assert (third["id"], third["status"], third["started_at"]) == (None, 400, None)
    moments = [body["created_at"], first["queued_at"], first["started_at"], first["finished_at"], body["finished_at"]]
    assert all(moment.endswith("Z") for moment in moments)
    assert [datetime.fromisoformat(moment) for moment in moments] == sorted(map(datetime.fromisoformat, moments))


def test_a_caller_lists_his_batches_the_newest_first(ada: Client) -> None:
    ids = [post(ada, item("/api/echo")) for _ in range(3)]
    post(Client(), item("/api/echo"))
    body = ada.get("/api/batch?page_size=2").json()
    assert [one["batch_id"] for one in body["results"]] == ids[:0:-1]
    assert [one["batch_id"] for one in ada.get(body["next"]).json()["results"]] == ids[:1]


def test_what_is_anothers_is_not_there(ada: Client) -> None:
    mine, anonymous = post(ada, item("/api/echo")), post(Client(), item("/api/echo"))
    bob = Client()
    bob.force_login(User.objects.create_user("bob"))
    for client, batch_id, status in [
        *((bob, mine, 404), (bob, anonymous, 404), (ada, mine, 200), (ada, anonymous, 404)),
        *((Client(), mine, 404), (Client(), anonymous, 200), (ada, "batch_x", 404)),
    ]:
        assert client.get(f"/api/batch/{batch_id}").status_code == status
    assert Client().get("/api/batch").json()["results"] == []
    assert len(ada.get("/api/batch").json()["results"]) == 1


def test_reading_takes_as_many_queries_for_ten_items_as_for_one(ada: Client) -> None:
    counts = []
    for size in (1, 10):
        batch_id = post(ada, *(item("/api/echo", id=str(n)) for n in range(size)))
        with CaptureQueriesContext(connection) as queries:
            ada.get(f"/api/batch/{batch_id}")
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("where", ["one", "list"])
def test_a_batch_whose_process_died_does_not_read_running(ada: Client, where: str) -> None:
    batch = Batch.objects.create(
        owner=User.objects.get(), total=1, caller="x", lease_expires_at=timezone.now() - timedelta(seconds=1)
    )
    BatchItem.objects.create(batch=batch, position=0, item_id="a")
    if where == "one":
        body = ada.get(f"/api/batch/{batch.pk}").json()
        assert body["items"][0]["state"] == "interrupted"
    else:
        body = ada.get("/api/batch").json()["results"][0]
    assert (body["status"], body["counts"]) == ("interrupted", {"total": 1, "succeeded": 0, "failed": 1})


# Retention.


def test_old_batches_are_pruned(ada: Client, settings: Any) -> None:
    ids = [post(ada, item("/api/echo")) for _ in range(3)]
    Batch.objects.filter(pk=ids[0]).update(finished_at=timezone.now() - timedelta(days=31))
    Batch.objects.filter(pk=ids[1]).update(finished_at=timezone.now() - timedelta(days=5))
    assert pruned() == "Deleted 1 batches.\n"
    settings.BATCH_RETENTION_DAYS = 4
    assert pruned() == "Deleted 1 batches.\n"
    assert [batch.pk for batch in Batch.objects.all()] == [ids[2]]
    assert BatchItem.objects.count() == 1
    assert pruned("--days", "0") == "Deleted 1 batches.\n"
    with pytest.raises(CommandError, match="negative"):
        pruned("--days", "-1")


def pruned(*arguments: str) -> str:
    output = StringIO()
    call_command("prune_batches", *arguments, stdout=output)
    return output.getvalue()


def test_many_are_pruned_in_slices(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batching.background.retention.SLICE", 3)
    old = timezone.now() - timedelta(days=40)
    Batch.objects.bulk_create(Batch(total=1, caller="x", status="completed", finished_at=old) for _ in range(10))
    assert pruned() == "Deleted 10 batches.\n"


def test_no_statement_deletes_more_items_than_others_can_wait_for(
    committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batching.background.retention.ITEMS", 10)
    old = timezone.now() - timedelta(days=40)
    for total in (3, 95, 3, 4):
        batch = Batch.objects.create(total=total, caller="x", status="completed", finished_at=old)
        BatchItem.objects.bulk_create(BatchItem(batch=batch, position=n) for n in range(total))
        old += timedelta(seconds=1)
    counts: list[int] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith('DELETE FROM "batching_batchitem"'):
            counts.append(context["cursor"].rowcount)
        return result

    with connection.execute_wrapper(count):
        assert pruned() == "Deleted 4 batches.\n"
    assert not BatchItem.objects.exists()
    assert counts == [*[10] * 8, 5, 3, 10, 7]
