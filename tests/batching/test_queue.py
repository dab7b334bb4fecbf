"""The rows of background batches: each item has one holder at a time and one final state, whoever dies."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.db.backends.signals import connection_created
from django.utils import timezone
from django.utils.http import http_date

from batching.background import queue, reaper
from batching.background.attempts import retry_time
from batching.background.embedded import EmbeddedWorker
from batching.background.fairness import RoundRobin
from batching.background.queue import Attempt, AttemptResult
from batching.conf import get_settings
from batching.items.item import ItemResponse
from batching.models import Batch, BatchItem
from tests.batching.background import accept, accepted, drain, results, states
from tests.batching.conftest import item, until, wsgi
from tests.host import views
from wire.asgi import threads

FINE = ItemResponse(200, {"a": 1})
ROOM = 1_000

pytestmark = pytest.mark.usefixtures("committed")


def made(count: int = 1, path: str = "/api/echo", **fields: Any) -> Batch:
    batch = accepted(accept(wsgi, [item(path, id=str(n)) for n in range(count)]))
    Batch.objects.filter(pk=batch.pk).update(**fields)
    return batch


def claim(places: int = 1, lease: float = 30) -> list[Attempt]:
    return queue.claim(places, lease, RoundRobin())


def ended(attempt: Attempt, response: ItemResponse = FINE) -> AttemptResult:
    return AttemptResult(attempt, response, 1.0, 2.0)


def adds_up(batch: Batch) -> bool:
    """Tell whether the counts of a batch are those of its rows."""
    batch.refresh_from_db()
    found = Counter(states(batch))
    return all(found[name] == batch.counts[name] for name in BatchItem.State.values if name != "interrupted")


def test_workers_that_claim_at_once_never_get_the_same_item() -> None:
    batch = made(300)

    def worked(_: int) -> list[int]:
        mine = []
        try:
            while found := claim(7):
                mine += [one.position for one in found]
                queue.finish([ended(one) for one in found], ROOM)
        finally:
            connections.close_all()
        return mine

    with ThreadPoolExecutor(4) as threads:
        taken = [position for some in threads.map(worked, range(4)) for position in some]
    assert sorted(taken) == list(range(300))
    assert set(BatchItem.objects.values_list("fence", flat=True)) == {1}
    assert adds_up(batch)
    assert batch.status == "completed"


def test_who_has_lost_his_claim_changes_nothing() -> None:
    batch = made()
    (late,) = claim(lease=-1)
    reaper.reap(3, ROOM)
    assert queue.finish([ended(late)], ROOM) == 0  # it waits again
    (held,) = claim()
    assert held.fence > late.fence
    assert queue.finish([ended(late)], ROOM) == 0  # it is somebody else's
    assert not queue.release(late, timezone.now(), counts=True)
    assert queue.renew([late], 30) == 0
    assert queue.finish([ended(held, ItemResponse(404, error="No."))], ROOM) == 1
    assert queue.finish([ended(late), ended(held)], ROOM) == 0  # it has ended
    assert (states(batch), BatchItem.objects.get().status) == (["failed"], 404)
    assert adds_up(batch)


def test_a_lease_lasts_as_long_as_it_is_prolonged() -> None:
    made()
    (held,) = claim(lease=0.2)
    for _ in range(5):
        time.sleep(0.1)
        assert queue.renew([held], 0.2) == 1
        reaper.reap(3, ROOM)
    assert queue.finish([ended(held)], ROOM) == 1


def test_a_lease_that_is_prolonged_in_the_last_moment_holds() -> None:
    made()
    (held,) = claim(lease=-1)
    prolonged: list[int] = []

    def prolong_first(execute: Any, sql: str, *rest: Any) -> Any:
        if not sql.startswith("SELECT") and not prolonged:
            prolonged.append(0)
            prolonged[0] = queue.renew([held], 30)
        return execute(sql, *rest)

    with connection.execute_wrapper(prolong_first):
        reaper.reap(3, ROOM)
    assert prolonged == [1]
    assert queue.finish([ended(held)], ROOM) == 1


def test_what_kills_its_processes_is_given_up() -> None:
    batch = made()
    for attempt in (1, 2, 3):
        (held,) = claim(lease=-1)
        assert held.number == attempt
        reaper.reap(3, ROOM)
    assert claim() == []
    assert (states(batch), BatchItem.objects.get().error) == (["failed"], reaper.PROCESSES_DIED.error)
    assert adds_up(batch)
    assert batch.status == "completed"


def test_an_attempt_that_was_given_back_does_not_count() -> None:
    made()
    for _ in range(5):
        (held,) = claim()
        assert held.number == 1
        queue.release(held, timezone.now(), counts=False)


@pytest.mark.parametrize(
    ("path", "method", "attempts"),
    [
        ("/api/failing/503", "GET", 3),
        ("/api/failing/503", "POST", 3),
        ("/api/failing/429", "PATCH", 3),
        ("/api/failing/502", "GET", 3),
        ("/api/failing/504", "DELETE", 3),
        ("/api/failing/502", "POST", 1),
        ("/api/failing/500", "GET", 1),
        ("/api/failing/404", "GET", 1),
    ],
)
def test_what_may_pass_and_may_be_done_twice_is_tried_again(
    path: str, method: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batching.background.attempts.LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr("batching.background.engine.IDLE", 0.02)
    batch = accepted(accept(wsgi, [item(path, method, id="a")]))
    drain()
    assert (states(batch), views.seen.count(path)) == (["failed"], attempts)


def test_another_try_that_succeeds_is_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batching.background.attempts.LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr("batching.background.engine.IDLE", 0.02)
    batch = made(path="/api/failing-once")
    drain()
    (one,) = results(wsgi, batch)
    assert (one["status"], one["state"]) == (200, "succeeded")


@pytest.mark.parametrize("said", ["120", "{date}"])
def test_an_answer_that_says_when_is_believed(said: str) -> None:
    made()
    (held,) = claim()
    asked = ItemResponse(503, headers={"Retry-After": said.format(date=http_date(time.time() + 120))})
    wait = (retry_time(ended(held, asked)) - timezone.now()).total_seconds()
    assert 115 < wait < 125


def test_an_item_waits_until_it_is_to_be_tried_again() -> None:
    made()
    (held,) = claim()
    queue.release(held, timezone.now() + timedelta(minutes=1), counts=True)
    assert claim() == []


def test_callers_take_turns_however_much_each_has_waiting() -> None:
    large, small = made(50), made(5, caller="user:7")
    turns = RoundRobin()
    taken = []
    for _ in range(10):
        (one,) = queue.claim(1, 30, turns)
        queue.finish([ended(one)], ROOM)
        taken.append(one.batch.pk)
    assert Counter(taken) == {large.pk: 5, small.pk: 5}


def test_who_has_the_least_running_comes_first() -> None:
    large, small = made(50), made(5, caller="user:7")
    assert {one.batch.pk for one in claim(1)} == {large.pk}
    found = Counter(one.batch.pk for one in claim(5))
    assert found == {large.pk: 2, small.pk: 3}


def test_low_priority_runs_when_nothing_normal_waits() -> None:
    response = wsgi(
        "POST", "/api/batch?priority=low", {"requests": [item("/api/echo")]}, headers={"prefer": "respond-async"}
    )
    low = accepted(response)
    normal = made(2)
    assert [one.batch.pk for one in claim(2) + claim(2)] == [normal.pk, normal.pk, low.pk]
    odd = wsgi("POST", "/api/batch?priority=high", {"requests": []}, headers={"prefer": "respond-async"})
    assert odd.status_code == 400


def test_an_engine_that_ends_gives_back_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batching.background.engine.GRACE", 0.2)
    batch = made(3, path="/api/slow-async?seconds=60")
    background = EmbeddedWorker(get_settings())
    until(lambda: views.seen)
    background.stop(10)
    assert not background.is_alive
    assert states(batch) == ["queued"] * 3
    assert set(BatchItem.objects.values_list("attempts", flat=True)) == {0}


def test_claims_read_no_more_than_they_need() -> None:
    if connections["default"].vendor != "sqlite":
        return
    for sql, index in ((queue.CLAIM.format(skip_locked=""), "batching_queue"), (queue.WAITING, "batching_queue")):
        with connections["default"].cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}", [""] * sql.count("%s"))
            assert index in str(cursor.fetchall())
    leases = BatchItem.objects.filter(lease_expires_at__gt=timezone.now())
    assert "batching_item_leases" in leases.filter(batch="a").explain()


def test_a_thread_keeps_its_connection_from_item_to_item_and_none_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE", 30.0)
    opened = []

    def note(connection: Any, **kwargs: Any) -> None:
        if threading.current_thread().name.startswith("batch-background"):
            opened.append(connection)

    connection_created.connect(note)
    batch = made(30, path="/api/groups")
    drain()
    connection_created.disconnect(note)
    assert states(batch) == ["succeeded"] * 30
    assert 1 <= len(opened) <= get_settings().BATCH_BACKGROUND_CONCURRENCY
    assert {each.connection for each in opened} == {None}


def test_in_a_server_items_leave_the_processor_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batching.background.embedded.SHARE", 0.1)
    batch = made(5, path="/api/burning?seconds=0.03")
    began = time.monotonic()
    background = EmbeddedWorker(get_settings())
    until(lambda: states(batch) == ["succeeded"] * 5)
    background.stop(10)
    assert time.monotonic() - began > 0.9  # 0.15 s of work in a tenth of the time, the last one's rest left out


def test_a_batch_that_is_deleted_while_it_is_claimed_is_one_less_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, other = made(), made()
    fetch = queue.fetch

    def delete_after_look(sql: str, *values: Any) -> Any:
        rows = fetch(sql, *values)
        if sql == queue.WAITING:
            gone.delete()
        return rows

    monkeypatch.setattr(queue, "fetch", delete_after_look)
    assert {each.batch.pk for each in claim(10)} == {other.pk}


@pytest.mark.parametrize("name", ["claim", "finish", "renew"])
def test_no_exception_ends_the_engine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    batch = made(3)
    work, failures = getattr(queue, name), [RuntimeError("foreign"), Batch.DoesNotExist()]

    def fail_twice(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return work(*args, **kwargs)

    monkeypatch.setattr(queue, name, fail_twice)
    drain()
    batch.refresh_from_db()
    assert batch.status == "completed"
