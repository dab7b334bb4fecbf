"""The database is away: whoever calls is told so and may come back, and nothing is half accepted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from batching.background import reaper
from batching.background.acceptance import Acceptance
from batching.models import Batch, BatchItem
from tests.batching.background import ASYNC, accept, accepted, drain
from tests.batching.conftest import Send, item, let_go, wsgi


@contextmanager
def away(nowhere: Path) -> Iterator[None]:
    """Have no thread reach the database until the block ends."""
    settings = connections.settings["default"]
    name, value = ("NAME", nowhere / "none" / "db") if "sqlite" in settings["ENGINE"] else ("HOST", nowhere)
    disconnect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(settings, name, str(value))
        yield
    disconnect()


def disconnect() -> None:
    let_go()
    connections.close_all()


def assert_away(response: Any) -> None:
    assert (response.status_code, response.headers.get("Retry-After")) == (503, "5"), response.content
    assert response.json() == {"error": "The database can't be reached right now.", "code": 503}


@pytest.mark.parametrize("in_transactions", [False, True])
def test_a_call_without_a_database_is_told_to_come_back(
    send: Send, tmp_path: Path, in_transactions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", in_transactions)
    batch = accepted(accept(send, [item("/api/failing/404", id="a")]))
    drain()
    with away(tmp_path):
        assert_away(accept(send, [item("/api/echo", id="a")]))
        assert_away(accept(send, [item("/api/echo", id="a")], **{"idempotency-key": "k"}))
        assert_away(send("POST", "/api/batch", {"requests": [item("/api/echo")]}, headers=ASYNC))
        for path in (f"/{batch.pk}", f"/{batch.pk}/results", f"/{batch.pk}/events"):
            assert_away(send("GET", f"/api/batch{path}"))
        for path in ("cancel", "retry"):
            assert_away(send("POST", f"/api/batch/{batch.pk}/{path}"))
    assert Batch.objects.get() == batch
    assert accept(send, [item("/api/echo", id="a")], **{"idempotency-key": "k"}).status_code == 202


def test_what_was_coming_in_is_seen_by_nobody_and_deleted_later(
    send: Send, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Acceptance.publish

    def publish_too_late(*args: Any) -> None:
        with away(tmp_path):
            publish(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Acceptance, "publish", publish_too_late)
        patch.setattr(reaper, "forget", lambda batch: None)  # it can't either, as the database is still away
        assert_away(accept(send, [item("/api/echo", id="a")]))
    (batch,) = Batch.objects.all()
    assert send("GET", f"/api/batch/{batch.pk}").status_code == 404
    drain()
    assert list(BatchItem.objects.values_list("state", flat=True)) == ["queued"]
    Batch.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    reaper.sweep(max_attempts=3, room=100)
    assert not BatchItem.objects.exists()


def test_who_watches_is_told_that_there_is_more_to_come(committed: None, tmp_path: Path) -> None:
    batch = accepted(accept(wsgi, [item("/api/echo", id="a")]))
    frames = iter(wsgi("GET", f"/api/batch/{batch.pk}/events"))
    assert b'"start"' in next(frames)
    with away(tmp_path):
        (last,) = frames
    told = json.loads(last.partition(b"data: ")[2])
    assert told == {
        "type": "error",
        "message": "The database can't be reached right now.",
        "code": 503,
        "retryable": True,
    }
