"""Batches in the background: accepted at once, carried out later, watched and read meanwhile."""

import json
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.db import connections
from django.db.models.deletion import Collector
from django.test import Client
from django.utils import timezone

from batching.background import embedded, queue, reaper
from batching.background.acceptance import Acceptance
from batching.background.fairness import RoundRobin
from batching.errors import NotRecorded
from batching.models import Batch, BatchItem
from tests.batching.background import (
    ASYNC,
    LINES,
    accept,
    accept_lines,
    accepted,
    content,
    drain,
    lines,
    results,
    states,
)
from tests.batching.conftest import Send, item, page_of

NONE = {"total": 0, "queued": 0, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0}


def events(response: Any) -> list[dict[str, Any]]:
    return [json.loads(frame.split("data: ")[1]) for frame in content(response).decode().split("\n\n") if frame]


def test_a_batch_is_accepted_at_once_and_carried_out_later(send: Send) -> None:
    response = accept(send, [item("/api/echo", id="a"), item("/api/answering/house", id="b")])
    batch = accepted(response)
    assert response["Location"] == f"/api/batch/{batch.pk}"
    assert response["Preference-Applied"] == "respond-async"
    assert response.json() == {"batch_id": batch.pk, "status": "queued", "counts": {**NONE, "total": 2, "queued": 2}}
    drain()
    detail = send("GET", f"/api/batch/{batch.pk}").json()
    assert detail["status"] == "completed"
    assert detail["counts"] == {**NONE, "total": 2, "succeeded": 1, "failed": 1}
    first, second = results(send, batch)
    assert (first["id"], first["status"], first["body"]["path"]) == ("a", 200, "/api/echo")
    assert (second["id"], second["status"], second["error"]) == ("b", 409, "No.")


def test_only_a_batch_in_the_background_has_the_engine_look_for_work(
    send: Send, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.BATCH_RUN_IN_SERVER = True
    woken: list[None] = []
    over = threading.Event()
    monkeypatch.setattr(embedded.EmbeddedWorker, "wake", lambda self: woken.append(None))
    monkeypatch.setattr(embedded.EmbeddedWorker, "_run", lambda self: over.wait())
    try:
        assert send("POST", "/api/batch", {"requests": [item("/api/echo")]}).status_code == 200
        assert embedded.is_running()
        assert not woken
        accepted(accept(send, [item("/api/echo")]))
        assert woken
    finally:
        over.set()
        embedded.workers.clear()


def test_a_batch_may_come_as_one_json_text(send: Send) -> None:
    batch = accepted(send("POST", "/api/batch", {"requests": [item("/api/echo", id="a")]}, headers=ASYNC))
    drain()
    assert states(batch) == ["succeeded"]


def test_a_bad_line_is_that_items_400_in_its_place(send: Send) -> None:
    bad = ["{", '{"id": "x", "path": "/api/echo", "method": "BREW"}', "\xff", '{"a": NaN}', "[]", "7"]
    batch = accepted(accept(send, [item("/api/echo", id="first"), *bad, "", item("/api/echo", id="last")]))
    assert states(batch) == ["queued", *["failed"] * 6, "queued"]
    drain()
    assert [one["status"] for one in results(send, batch)] == [200, *[400] * 6, 200]
    assert [one["id"] for one in results(send, batch, "?status=succeeded")] == ["first", "last"]


def test_a_batch_of_nothing_but_bad_lines_has_ended(send: Send) -> None:
    assert accepted(accept(send, ["{", "{"])).status == "completed"


def test_a_line_may_be_as_long_as_a_batch(send: Send, settings: Any) -> None:
    settings.BATCH_MAX_BYTES = 200
    long = item("/api/echo", "POST", id="long", body="x" * 200_000)
    batch = accepted(accept(send, [item("/api/echo", id="a"), long, item("/api/echo", id="b")]))
    assert states(batch) == ["queued", "failed", "queued"]


@pytest.mark.parametrize(
    ("lines", "limits", "status"),
    [
        ([], {}, 400),
        ([item("/api/echo", id="a"), *[item("/api/echo", id=f"{n}") for n in range(600)], item("/", id="a")], {}, 400),
        ([item("/api/echo", id="a"), item("/api/echo", id="b")], {"BATCH_ASYNC_MAX_SIZE": 1}, 400),
        ([item("/api/echo", id="a"), item("/api/echo", id="b")], {"BATCH_ASYNC_MAX_BYTES": 70}, 413),
        ([item("/api/echo", id="a"), item("/api/echo", id="b")], {"BATCH_MAX_QUEUED": 1}, 429),
        ([item("/api/echo", id="a")], {"BATCH_ENABLED": False}, 403),
    ],
    ids=["empty", "an id twice", "too many", "too large", "too many waiting", "switched off"],
)
def test_what_is_refused_leaves_nothing(send: Send, settings: Any, lines: Any, limits: Any, status: int) -> None:
    for name, value in limits.items():
        setattr(settings, name, value)
    assert accept(send, lines).status_code == status
    assert not Batch.objects.exists()
    assert not BatchItem.objects.exists()


def test_lines_are_for_the_background_only(send: Send) -> None:
    assert send("POST", "/api/batch", "{}", content_type=LINES).status_code == 415


def test_items_that_build_on_others_are_refused(send: Send) -> None:
    named = item("/api/echo", id="b", depends_on=["a"])
    referring = item("/api/echo", "POST", id="c", body={"a": "{{a.body.path}}"})
    batch = accepted(accept(send, [item("/api/echo", id="a"), named, referring]))
    assert states(batch) == ["queued", "failed", "failed"]
    assert "build on each other" in results(send, batch)[0]["error"]


def test_a_batch_that_is_still_coming_in_is_seen_by_nobody(send: Send) -> None:
    batch = receiving()
    with Acceptance(batch, max_size=1, max_queued=1, room=1):
        assert send("GET", f"/api/batch/{batch.pk}").status_code == 404
    assert not Batch.objects.exists()


def receiving(**fields: Any) -> Batch:
    return Batch(caller="anonymous", expires_at=timezone.now() + timedelta(hours=1), **{"total": 0, **fields})


def test_what_a_dead_process_has_half_received_is_deleted(committed: None) -> None:
    batch = receiving(status="receiving", lease_expires_at=timezone.now() - timedelta(seconds=1))
    batch.save()
    BatchItem.objects.create(batch=batch, position=0, not_before=timezone.now(), call="{}")
    reaper.sweep(max_attempts=3, room=100)
    assert not BatchItem.objects.exists()


def test_what_is_accepted_in_the_last_moment_is_not_deleted(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was thought dead goes on while another one is about to delete what it has received."""
    batch = receiving(status="receiving", lease_expires_at=timezone.now() - timedelta(seconds=1))
    batch.save()
    BatchItem.objects.create(batch=batch, position=0, not_before=timezone.now(), call="{}")
    other = ThreadPoolExecutor(1)
    publishing: list[Future[bool]] = []
    delete = Collector.delete

    def meanwhile(collector: Collector) -> Any:
        publishing.append(other.submit(published, batch))
        wait(publishing, timeout=0.5)
        return delete(collector)

    monkeypatch.setattr(Collector, "delete", meanwhile)
    reaper.sweep(max_attempts=3, room=100)
    assert publishing[0].result(30) == Batch.objects.filter(pk=batch.pk).exists()


def published(batch: Batch) -> bool:
    try:
        Acceptance(batch, max_size=1, max_queued=1, room=100).publish("")
    except NotRecorded:
        return False
    finally:
        connections.close_all()
    return True


def test_the_same_key_and_body_replay_what_was_accepted(send: Send) -> None:
    items = [item("/api/groups", "POST", id="a", body={"name": "one"})]
    key = {"idempotency-key": "k"}
    batch = accepted(accept(send, items, **key))
    again = accept(send, items, **key)
    assert (again.json()["batch_id"], again["Idempotency-Replayed"]) == (batch.pk, "true")
    drain()
    assert accept(send, items, **key).json()["status"] == "completed"
    assert accept(send, [item("/api/echo")], **key).status_code == 422
    assert send("POST", "/api/batch", {"requests": items}, headers=key).status_code == 422
    assert Group.objects.count() == Batch.objects.count() == 1


def test_each_item_has_a_stable_key_of_its_own_unless_it_names_one(send: Send) -> None:
    own = item("/api/echo", id="b", headers={"Idempotency-Key": "own"})
    batch = accepted(accept(send, [item("/api/echo", id="a"), own]))
    drain()
    keys = [one["body"]["headers"]["Idempotency-Key"] for one in results(send, batch)]
    assert keys == [f"{batch.pk}:0", "own"]


def test_requests_are_kept_whole_until_they_ran_and_shown_masked(send: Send) -> None:
    body = {"password": "t0psecret", "text": "x"}
    fine = item("/api/echo", "POST", id="a", body=body)
    broken = item("/api/raising/error", "POST", id="b", body=body)
    batch = accepted(accept(send, [fine, broken]))
    assert all("t0psecret" in row.call for row in batch.items.all())
    drain()
    first, second = batch.items.order_by("position")
    assert first.call is None
    assert "t0psecret" in second.call
    assert first.request_body == {"password": "********", "text": "x"}
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    for page in (page_of(batch), f"/api/batch/{batch.pk}"):
        assert b"t0psecret" not in admin.get(page).content
    assert results(send, batch)[0]["body"]["data"] == body
    Batch.objects.update(retry_before=timezone.now() - timedelta(seconds=1))
    reaper.sweep(max_attempts=3, room=100)
    assert not BatchItem.objects.filter(call__isnull=False).exists()
    assert send("POST", f"/api/batch/{batch.pk}/retry").status_code == 409


def test_a_batch_belongs_to_its_caller(committed: None) -> None:
    ada, bob = Client(), Client()
    for name, client in (("ada", ada), ("bob", bob)):
        client.force_login(User.objects.create_user(name))
    line = json.dumps(item("/api/echo"))
    made = ada.post("/api/batch", line, content_type=LINES, headers=ASYNC).json()["batch_id"]
    for client in (bob, Client()):
        for path in ("", "/results", "/events"):
            assert client.get(f"/api/batch/{made}{path}").status_code == 404
        for path in ("/cancel", "/retry"):
            assert client.post(f"/api/batch/{made}{path}").status_code == 404
    assert ada.get(f"/api/batch/{made}/results").status_code == 200


def test_results_are_paged_by_position(send: Send) -> None:
    batch = accepted(accept(send, [item(f"/api/echo/{n}", id=str(n)) for n in range(5)]))
    assert results(send, batch) == []
    drain()
    assert [one["position"] for one in results(send, batch, "?after=2")] == [3, 4]
    for query in ("?after=-1", "?after=x", "?status=odd"):
        assert send("GET", f"/api/batch/{batch.pk}/results{query}").status_code == 400


def test_a_cancelled_batch_starts_nothing_more_and_keeps_what_is_finished(send: Send) -> None:
    batch = accepted(accept(send, [item("/api/echo", id="a"), "{"]))
    for _ in range(2):
        cancelled = send("POST", f"/api/batch/{batch.pk}/cancel").json()
        assert cancelled["status"] == "cancelled"
        assert cancelled["counts"] == {**NONE, "total": 2, "cancelled": 1, "failed": 1}
    drain()
    assert states(batch) == ["cancelled", "failed"]
    assert results(send, batch, "?status=cancelled")[0]["status"] == 503


def test_what_runs_when_its_batch_is_cancelled_may_end(send: Send) -> None:
    batch = accepted(accept(send, [item("/api/echo", id="a"), item("/api/echo", id="b")]))
    (held,) = queue.claim(1, 30, RoundRobin())
    assert send("POST", f"/api/batch/{batch.pk}/cancel").json()["status"] == "cancelling"
    assert queue.claim(1, 30, RoundRobin()) == []
    assert queue.release(held, timezone.now(), counts=True)
    reaper.sweep(max_attempts=3, room=100)
    batch.refresh_from_db()
    assert (batch.status, states(batch)) == ("cancelled", ["cancelled", "cancelled"])


def test_a_batch_that_somebody_waits_for_cannot_be_cancelled(send: Send) -> None:
    made = send("POST", "/api/batch", {"requests": [item("/api/echo")]}).json()["batch_id"]
    assert send("POST", f"/api/batch/{made}/cancel").status_code == 409
    assert send("POST", f"/api/batch/{made}/retry").status_code == 409


def test_a_retry_runs_what_failed_as_a_new_batch(send: Send) -> None:
    late = item("/api/groups", "POST", id="late", body={"name": "late", "fail": 1})
    batch = accepted(accept(send, [item("/api/echo", id="fine"), late, "{"]))
    assert send("POST", f"/api/batch/{batch.pk}/retry").status_code == 409
    drain()
    Group.objects.all().delete()
    response = send("POST", f"/api/batch/{batch.pk}/retry")
    again = accepted(response)
    assert response["Location"] == f"/api/batch/{again.pk}"
    drain()
    assert send("GET", f"/api/batch/{again.pk}").json()["parent"] == batch.pk
    assert [(one["id"], one["status"]) for one in results(send, again)] == [("late", 500)]
    assert again.items.values_list("method", "path", "request_body").get() == ("POST", "/api/groups", late["body"])
    assert Group.objects.count() == 1


def test_progress_is_told_until_the_end(send: Send) -> None:
    batch = accepted(accept(send, [item("/api/echo", id="a")]))
    drain()
    first, last = events(send("GET", f"/api/batch/{batch.pk}/events"))
    assert (first["type"], last["type"], last["status"]) == ("start", "end", "completed")
    assert last["counts"] == {**NONE, "total": 1, "succeeded": 1}


def test_what_has_not_started_when_time_is_over_never_starts(send: Send, settings: Any) -> None:
    settings.BATCH_EXPIRES_AFTER = 0.001
    batch = accepted(accept(send, [item("/api/echo", id="a")]))
    drain()
    batch.refresh_from_db()
    assert (batch.status, states(batch), batch.expired) == ("expired", ["expired"], 1)
    settings.BATCH_EXPIRES_AFTER = 60
    again = accepted(send("POST", f"/api/batch/{batch.pk}/retry"))
    drain()
    assert states(again) == ["succeeded"]


def test_a_caller_may_give_a_batch_less_time(send: Send) -> None:
    body, hour = lines([item("/api/failing/500", id="a")]), timedelta(hours=1)
    batch = accepted(send("POST", "/api/batch?expires_after=3600", body, content_type=LINES, headers=ASYNC))
    assert batch.expires_at == batch.created_at + hour
    drain()
    again = accepted(send("POST", f"/api/batch/{batch.pk}/retry?expires_after=3600"))
    assert again.expires_at == again.created_at + hour


@pytest.mark.parametrize("said", ["0", "-1", "1.5", "x", "86401", "9" * 400, "\u0663"])
def test_a_time_that_a_batch_cannot_have_is_refused(send: Send, said: str) -> None:
    path = f"/api/batch?expires_after={quote(said)}"
    response = send("POST", path, lines([item("/api/echo")]), content_type=LINES, headers=ASYNC)
    assert (response.status_code, list(response.json()["details"])) == (400, ["expires_after"])


@pytest.mark.parametrize("said", ["priority=low", "expires_after=5"])
def test_what_only_the_background_heeds_is_refused_elsewhere(send: Send, said: str) -> None:
    response = send("POST", f"/api/batch?{said}", {"requests": [item("/api/echo")]})
    assert (response.status_code, list(response.json()["details"])) == (400, [said.partition("=")[0]])


def test_a_batch_cannot_be_an_item_of_a_batch(send: Send) -> None:
    batch = accepted(accept(send, [item("/api/batch", "POST", id="a", body={"requests": []})]))
    drain()
    assert results(send, batch)[0]["error"] == "A batch can't be an item of a batch."


def test_an_item_is_not_given_forever(send: Send, settings: Any) -> None:
    settings.BATCH_ITEM_TIMEOUT = 0.2
    batch = accepted(accept(send, [item("/api/slow-async?seconds=5", id="a")]))
    drain()
    assert results(send, batch)[0]["error"] == "Timed out after 0.2 s"


def test_the_body_of_a_batch_is_not_read_twice(send: Send) -> None:
    body = "".join(json.dumps(item("/api/echo", id=str(n))) + "\r\n\n" for n in range(1_200))
    assert accepted(accept_lines(send, body)).total == 1_200
