"""Items run side by side, under a bound, and never longer than they may."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test import AsyncClient

from batching.models import Batch, BatchItem
from batching.run import pool
from tests.batching.conftest import Send, answers, count, item, let_go, until
from tests.host import views
from wire.asgi import threads


def test_a_batch_takes_as_long_as_its_slowest_item(send: Send) -> None:
    requests = [item(f"/api/slow{kind}?seconds=0.3", id=f"{n}{kind}") for n in range(5) for kind in ("", "-async")]

    def took() -> float:
        response = send("POST", "/api/batch", {"requests": requests})
        assert {one["status"] for one in answers(response)} == {200}
        seconds: float = response.took
        return seconds

    assert any(took() < 0.3 + 0.25 for _ in range(10))  # a busy machine makes some of them late


def test_at_the_deadline_the_envelope_leaves_with_what_is_there(send: Send, settings: Any) -> None:
    settings.BATCH_TIMEOUT = 1
    settings.BATCH_CONCURRENCY = 4
    requests = [
        item("/api/echo", id="quick"),
        item("/api/slow?seconds=2&name=sync", id="sync"),
        item("/api/slow-async?seconds=2&name=async", id="async"),
        item("/api/stubborn?seconds=2", id="stubborn"),
        item("/api/slow?seconds=2&name=last", id="last"),
        item("/api/slow?seconds=2&name=crowded", id="crowded"),
        item("/api/slow?seconds=0&name=next", id="next", depends_on=["sync"]),
    ]
    response = send("POST", "/api/batch", {"requests": requests})
    assert response.took < 1 + 0.5
    given = {one["id"]: (one["status"], one.get("error")) for one in answers(response)}
    assert given["quick"][0] == 200
    for name in ("sync", "async", "stubborn", "last"):
        assert given[name] == (504, "Timed out after 1 s")
    for name in ("crowded", "next"):
        assert given[name] == (504, "Not started: the batch ended after 1 s")
    batch = wait_for_end()
    assert (batch.status, batch.succeeded, batch.failed) == ("expired", 1, 6)
    stored = list(batch.items.values_list("item_id", "state", "status", "error", "duration"))
    time.sleep(1.1)
    assert "async cancelled" in views.seen
    assert "async ended" not in views.seen
    assert not {"crowded began", "next began"} & set(views.seen)
    assert list(batch.items.values_list("item_id", "state", "status", "error", "duration")) == stored


def wait_for_end() -> Batch:
    """Return the only batch once it has ended."""
    batch: Batch = until(lambda: Batch.objects.exclude(finished_at=None).first())
    return batch


async def ended() -> Batch:
    """Return the only batch once it has ended."""

    def waited() -> Batch:
        try:
            return wait_for_end()
        finally:
            connections.close_all()

    return await asyncio.to_thread(waited)


@contextmanager
def held_database() -> Iterator[None]:
    """Let nobody else write batches."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("LOCK TABLE batching_batch IN ACCESS EXCLUSIVE MODE")
        yield


def in_thread(work: Any) -> threading.Thread:
    def ended() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=ended)
    thread.start()
    return thread


def test_a_database_that_somebody_holds_refuses_the_batch_in_time(send: Send, settings: Any) -> None:
    settings.BATCH_TIMEOUT = 0.5
    responses: list[Any] = []
    with held_database():
        asked = {"requests": [item("/api/slow?seconds=0")]}
        sending = in_thread(lambda: responses.append(send("POST", "/api/batch", asked)))
        sending.join(10)
    assert (responses[0].status_code, responses[0]["Retry-After"]) == (503, "5")
    assert responses[0].took < 0.5 + 0.5
    let_go()  # what waits for the database comes first
    assert not views.seen
    assert not Batch.objects.exists()


def test_answers_leave_in_time_when_their_rows_have_to_wait(send: Send, settings: Any) -> None:
    settings.BATCH_TIMEOUT = 1
    responses: list[Any] = []
    asked = {"requests": [item("/api/slow?seconds=0.5")]}
    sending = in_thread(lambda: responses.append(send("POST", "/api/batch", asked)))
    until(lambda: views.seen)
    with held_database():
        sending.join(10)
    assert answers(responses[0])[0]["status"] == 200
    assert responses[0].took < 1 + 0.5
    assert wait_for_end().status == "completed"


def test_the_bound_holds_for_the_process_and_a_place_is_taken_until_its_thread_is_done(
    send: Send, settings: Any
) -> None:
    settings.BATCH_TIMEOUT = 1
    settings.BATCH_CONCURRENCY = 2
    stuck = [item("/api/slow?seconds=3", id=str(n)) for n in range(3)]
    assert {one["status"] for one in answers(send("POST", "/api/batch", {"requests": stuck}))} == {504}
    response = send("POST", "/api/batch", {"requests": [item("/api/echo")]})
    assert answers(response)[0]["error"] == "Not started: the batch ended after 1 s"
    assert response.took < 1 + 0.5
    until(lambda: views.seen.count("slow ended") == 2)
    assert answers(send("POST", "/api/batch", {"requests": [item("/api/echo")]}))[0]["status"] == 200
    assert views.seen.count("slow began") == 2


async def test_the_bound_holds_over_all_batches(committed: None, settings: Any) -> None:
    settings.BATCH_CONCURRENCY = 3
    requests = [item(f"/api/slow{kind}?seconds=0.05", id=f"{n}{kind}") for n in range(2) for kind in ("", "-async")]
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, count("began") - count("ended"))
            await asyncio.sleep(0.001)

    watcher = asyncio.create_task(watch())
    responses = await asyncio.gather(*(post(requests) for _ in range(6)))
    watcher.cancel()
    assert all(one["status"] == 200 for response in responses for one in answers(response))
    assert 2 <= most <= 3


async def post(requests: list[Any], **options: Any) -> Any:
    return await AsyncClient().post("/api/batch", {"requests": requests}, content_type="application/json", **options)


@pytest.mark.parametrize("kind", ["slow", "slow-async"])
async def test_a_client_that_goes_away_ends_its_batch(committed: None, settings: Any, kind: str) -> None:
    settings.BATCH_CONCURRENCY = 2
    requests = [item(f"/api/{kind}?seconds=1&name={n}", id=str(n)) for n in range(4)]
    task = asyncio.create_task(post(requests))
    while len(views.seen) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    batch = await ended()
    assert (batch.status, batch.succeeded, batch.failed) == ("cancelled", 0, 4)
    states = [state async for state in BatchItem.objects.values_list("state", "error")]
    assert states[2:] == [("cancelled", "Not started: the client went away")] * 2
    assert states[:2] == [("cancelled", "Cancelled: the client went away")] * 2
    await asyncio.sleep(1.1)
    assert {one.split()[0] for one in views.seen} == {"0", "1"}
    if kind == "slow-async":
        assert sorted(views.seen) == ["0 began", "0 cancelled", "1 began", "1 cancelled"]


@pytest.mark.slow
def test_a_thousand_batches_leave_no_thread_and_no_connection(send: Send) -> None:
    """A quarter through each door, on each database."""
    requests = [item("/api/groups", id="a"), item("/api/echo-async", id="b"), item("/api/raising/exit", id="c")]
    for _ in range(20):
        send("POST", "/api/batch", {"requests": requests})
    running, connected = threading.active_count(), open_connections()
    for _ in range(250):
        answers(send("POST", "/api/batch", {"requests": requests}))
    assert threading.active_count() <= running + 10
    until(lambda: not pool.cancelled_tasks)
    time.sleep(threads.IDLE + 0.5)
    assert open_connections() <= connected


def test_a_thread_opens_one_connection_for_all_the_items_it_takes_also_from_batch_to_batch(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE", 30.0)
    let_go()  # and threads that were idle know
    opened: list[str] = []

    def note(**kwargs: Any) -> None:
        opened.append(threading.current_thread().name)

    connection_created.connect(note)
    try:
        requests = [item("/api/groups", id=str(n)) for n in range(10)]
        for _ in range(3):
            assert {one["status"] for one in answers(send("POST", "/api/batch", {"requests": requests}))} == {200}
    finally:
        connection_created.disconnect(note)
    places = [name for name in opened if name.startswith("batch-item")]
    assert 1 <= len(places) == len(set(places))


@pytest.mark.parametrize(("clock", "side_by_side"), [(time.monotonic, False), (float, True)])
def test_items_that_wait_run_side_by_side_and_those_that_compute_in_turns(
    send: Send, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float], side_by_side: bool
) -> None:
    """A thread has computed as long as its clock says, be it in the middle of an item."""
    monkeypatch.setattr(pool, "thread_clock", lambda: clock)
    requests = [item("/api/slow?seconds=0.05", id=str(n)) for n in range(3)]
    answers(send("POST", "/api/batch", {"requests": requests}))
    first, *others = BatchItem.objects.order_by("started_at")
    assert (others[0].started_at < first.finished_at) is side_by_side


def test_the_clock_of_a_thread_tells_others_what_it_computes() -> None:
    clocks: list[Callable[[], float]] = []
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        clocks.append(pool.thread_clock())
        go.wait(10)
        while clocks[0]() < 0.05:
            pass
        done.wait(10)

    thread = in_thread(work)
    until(lambda: clocks)
    assert clocks[0]() < 0.05
    go.set()
    until(lambda: clocks[0]() >= 0.05)
    done.set()
    thread.join(10)


def open_connections() -> int:
    """Count the connections to the test's database, this thread's own among them."""
    connection = connections["default"]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(cursor.fetchone()[0])
    # SQLite itself holds on to the file of a connection that is closed while others are open, for the next one.
    # By its type: `isinstance` would have lazy objects of other tests do what they put off.
    wrappers = [one for one in gc.get_objects() if type(one) is type(connection)]
    return sum(wrapper.connection is not None for wrapper in wrappers)
