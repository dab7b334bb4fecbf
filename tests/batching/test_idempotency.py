"""Idempotency-Key: the same key and body, the same answer."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from batching.models import Batch, BatchItem
from tests.batching.background import accept, accepted, results
from tests.batching.conftest import Send, answers, item, until
from tests.host import views

WRITE = {"requests": [item("/api/groups", "POST", id="a", body={"name": "one"}), item("/api/answering/house", id="b")]}


def keyed(send: Send, body: Any, key: str = "k", path: str = "/api/batch", **headers: str) -> Any:
    return send("POST", path, body, headers={"idempotency-key": key, **headers})


def test_the_same_key_and_body_replay_the_answer_and_run_nothing(send: Send) -> None:
    first, second = keyed(send, WRITE), keyed(send, WRITE)
    assert first.json() == second.json()
    assert (first.get("Idempotency-Replayed"), second["Idempotency-Replayed"]) == (None, "true")
    assert Group.objects.count() == Batch.objects.count() == 1


def test_a_replay_echoes_the_ids_of_refused_items(send: Send) -> None:
    ids = [2, 0, "2", "", "x" * 300, -(2**63), None, "\u00e9"]
    requests = [{"id": one, "method": "GET"} for one in ids]
    first, second = keyed(send, {"requests": requests}), keyed(send, {"requests": requests})
    assert [one["id"] for one in answers(first)] == ids
    assert first.json() == second.json()
    batch = accepted(accept(send, requests))
    assert [one["id"] for one in results(send, batch)] == ids


def test_the_order_of_a_bodys_keys_is_no_difference(send: Send) -> None:
    keyed(send, '{"requests": [{"id": "a", "method": "GET", "path": "/api/echo"}]}')
    response = keyed(send, '{"requests": [{"path": "/api/echo", "method": "GET", "id": "a"}]}')
    assert response["Idempotency-Replayed"] == "true"


def test_another_body_is_refused(send: Send) -> None:
    keyed(send, WRITE)
    response = keyed(send, {"requests": [item("/api/echo")]})
    assert (response.status_code, response.json()["code"]) == (422, 422)


def test_a_replay_can_be_a_stream(send: Send) -> None:
    body = keyed(send, WRITE).json()
    response = keyed(send, WRITE, accept="application/x-ndjson")
    assert response["Idempotency-Replayed"] == "true"
    assert response["Content-Type"] == "application/x-ndjson"
    assert response.content.count(b"\n") == 4
    assert body["batch_id"].encode() in response.content


def test_while_it_runs_the_same_call_is_a_conflict(send: Send) -> None:
    batch = running()
    response = keyed(send, {"requests": [item("/api/echo")]})
    assert response.status_code == 422
    batch.request_hash = keyed_hash(send)
    batch.save()
    response = keyed(send, WRITE)
    assert (response.status_code, response["Retry-After"]) == (409, "2")


def running(**fields: Any) -> Batch:
    lease = timezone.now() + timedelta(minutes=1)
    values = {"total": 2, "caller": "anonymous", "idempotency_key": "k", "lease_expires_at": lease}
    return Batch.objects.create(**{**values, **fields})


def keyed_hash(send: Send) -> str:
    keyed(send, WRITE, key="other")
    return Batch.objects.get(idempotency_key="other").request_hash


def test_after_a_crash_the_key_is_free_again(send: Send) -> None:
    batch = running(lease_expires_at=timezone.now() - timedelta(seconds=1))
    BatchItem.objects.create(batch=batch, position=0, state="running")
    response = keyed(send, WRITE)
    assert response.status_code == 200
    assert "Idempotency-Replayed" not in response
    batch.refresh_from_db()
    assert (batch.status, batch.idempotency_key) == ("interrupted", None)
    assert batch.items.get().state == "interrupted"


def test_a_key_is_kept_a_day(send: Send) -> None:
    keyed(send, WRITE)
    Batch.objects.update(finished_at=timezone.now() - timedelta(hours=25))
    assert "Idempotency-Replayed" not in keyed(send, {"requests": [item("/api/echo")]})


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb"])
def test_a_key_that_is_none_is_refused(send: Send, key: str) -> None:
    assert keyed(send, WRITE, key=key).status_code == 400


def test_a_key_belongs_to_its_caller(committed: None) -> None:
    ids = set()
    for name in ("ada", "bob", None):
        client = Client()
        if name:
            client.force_login(User.objects.create_user(name))
        response = client.post(
            "/api/batch",
            {"requests": [item("/api/echo")]},
            content_type="application/json",
            headers={"idempotency-key": "k"},
        )
        ids.add(response.json()["batch_id"])
    assert len(ids) == 3


def test_a_key_of_an_item_is_handed_to_its_view(send: Send) -> None:
    body = {"requests": [item("/api/echo", headers={"Idempotency-Key": "own"})]}
    given = answers(keyed(send, body))[0]["body"]
    assert given["headers"]["Idempotency-Key"] == "own"


def test_the_answers_of_a_call_with_a_key_are_kept_whole(send: Send) -> None:
    body = {"requests": [item("/api/answering/large")]}
    assert keyed(send, body).json() == keyed(send, body).json()


def test_a_batch_that_timed_out_is_replayed_as_it_was(send: Send, settings: Any) -> None:
    settings.BATCH_TIMEOUT = 1
    body = {"requests": [item("/api/echo", id="a"), item("/api/slow?seconds=2", id="b")]}
    first = keyed(send, body)
    until(lambda: Batch.objects.filter(status="expired"))
    second = keyed(send, body)
    assert [one["status"] for one in answers(second)] == [200, 504]
    assert second["Idempotency-Replayed"] == "true"
    assert answers(first)[1]["error"] == answers(second)[1]["error"]
    until(lambda: "slow ended" in views.seen)
