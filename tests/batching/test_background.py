"""Batches in the background: accepted at once, carried out later, as their caller."""

from typing import Any

from batching.models import Batch
from tests.batching.background import accept, accepted, drain, results, states
from tests.batching.conftest import Send, item


def test_a_batch_is_accepted_at_once_and_carried_out_later(send: Send) -> None:
    response = accept(send, [item("/api/echo", id="a"), item("/api/answering/house", id="b")])
    batch = accepted(response)
    assert response["Location"] == f"/api/batch/{batch.pk}"
    assert response["Preference-Applied"] == "respond-async"
    counts = {"total": 2, "queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "expired": 0}
    assert response.json() == {"batch_id": batch.pk, "status": "queued", "counts": counts}
    drain()
    detail = send("GET", f"/api/batch/{batch.pk}").json()
    assert detail["status"] == "completed"
    assert detail["counts"] == {**counts, "queued": 0, "succeeded": 1, "failed": 1}
    first, second = results(send, batch)
    assert (first["id"], first["status"], first["body"]["path"]) == ("a", 200, "/api/echo")
    assert (second["id"], second["status"], second["error"]) == ("b", 409, "No.")
