"""The threads of requests are lent to one after the other, each with its connections, and nothing is left in them."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import Group
from django.core.handlers.asgi import ASGIHandler
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from django.http import HttpRequest, JsonResponse
from django.urls import path

from wire.asgi import threads
from wire.asgi.detached import DetachedStreams

PATIENCE = 30
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost")],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}
seen: list[threading.Thread] = []
late: list[asyncio.Task[int]] = []
go_on = threading.Event()


def groups(request: HttpRequest) -> JsonResponse:
    seen.append(threading.current_thread())
    return JsonResponse({"groups": Group.objects.count()})


def slow(request: HttpRequest) -> JsonResponse:
    seen.append(threading.current_thread())
    go_on.wait(PATIENCE)
    return JsonResponse({})


def unfinished(request: HttpRequest) -> JsonResponse:
    seen.append(threading.current_thread())
    transaction.atomic().__enter__()
    Group.objects.create(name="unfinished")
    return JsonResponse({})


async def leaving_work(request: HttpRequest) -> JsonResponse:
    async def counted() -> int:
        await asyncio.sleep(0.05)
        return await sync_to_async(counted_in_thread)()

    def counted_in_thread() -> int:
        try:
            return Group.objects.count()
        finally:
            connections.close_all()

    late.append(asyncio.create_task(counted()))
    return JsonResponse({})


async def patient(request: HttpRequest) -> JsonResponse:
    """Come back to the thread's connection after a while."""

    def begin() -> None:
        seen.append(threading.current_thread())
        transaction.set_autocommit(False)
        Group.objects.create(name="patient")

    def end() -> int:
        seen.append(threading.current_thread())
        transaction.commit()
        transaction.set_autocommit(True)
        return Group.objects.count()

    await sync_to_async(begin)()
    await asyncio.sleep(0.1)
    return JsonResponse({"groups": await sync_to_async(end)()})


urlpatterns = [
    path("patient", patient),
    path("groups", groups),
    path("slow", slow),
    path("unfinished", unfinished),
    path("leaving-work", leaving_work),
]


class Server:
    """Django behind the handover, without a socket."""

    def __init__(self) -> None:
        self.application = DetachedStreams(ASGIHandler())

    def asked(self, where: str) -> ApplicationCommunicator:
        return ApplicationCommunicator(self.application, {**SCOPE, "path": f"/{where}"})

    async def get(self, where: str) -> bytes:
        client = self.asked(where)
        await client.send_input({"type": "http.request", "body": b""})
        assert (await client.receive_output(PATIENCE))["status"] == 200
        body: bytes = (await client.receive_output(PATIENCE))["body"]
        await client.wait(PATIENCE)
        return body


@pytest.fixture
async def server(settings: Any, transactional_db: None) -> AsyncIterator[Server]:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    seen.clear()
    late.clear()
    go_on.clear()
    it = Server()
    yield it
    go_on.set()
    for thread in it.application._threads._idle:
        thread.shutdown()
    await until(lambda: not any(thread.is_alive() for thread in seen))


async def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it didn't happen"
        await asyncio.sleep(0.01)


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """The connections that were opened, whichever thread they are of."""
    them: list[Any] = []

    def note(connection: Any, **kwargs: Any) -> None:
        them.append(connection)

    connection_created.connect(note)
    yield them
    connection_created.disconnect(note)


async def test_a_thread_and_its_connection_serve_the_next_request(
    server: Server, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE", PATIENCE)
    for _ in range(5):
        assert await server.get("groups") == b'{"groups": 0}'
    assert len(set(seen)) == 1
    assert len(opened) == 1


async def test_requests_at_once_have_a_thread_each(server: Server) -> None:
    asked = [asyncio.create_task(server.get("slow")) for _ in range(3)]
    await until(lambda: len(seen) == 3)
    assert len(set(seen)) == 3
    go_on.set()
    await asyncio.gather(*asked)


async def test_what_nobody_uses_is_closed_and_ends(
    server: Server, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LIFE", 1.0)
    await server.get("groups")
    assert [one.connection is None for one in opened] == [False]
    await until(lambda: opened[0].connection is None)
    await until(lambda: not seen[0].is_alive())
    assert await server.get("groups") == b'{"groups": 0}'


async def test_a_thread_that_is_still_at_something_is_lent_to_nobody(server: Server) -> None:
    client = server.asked("slow")
    await client.send_input({"type": "http.request", "body": b""})
    await until(lambda: seen)
    client.future.cancel()
    await client.send_input({"type": "http.disconnect"})
    await server.get("groups")
    assert seen[0] is not seen[1]
    assert seen[0].is_alive()
    go_on.set()
    await until(lambda: not seen[0].is_alive())


async def test_a_transaction_that_a_view_never_leaves_ends_with_its_request(server: Server) -> None:
    await server.get("unfinished")
    assert await server.get("groups") == b'{"groups": 0}'
    assert seen[0] is seen[1]


async def test_a_request_finds_its_thread_and_connection_as_it_left_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IDLE", "LIFE", "STALE"):
        monkeypatch.setattr(threads, name, 0.01)
    assert await server.get("patient") == b'{"groups": 1}'
    assert len(set(seen)) == 1


async def test_work_that_a_view_leaves_behind_finds_a_thread(server: Server) -> None:
    await server.get("leaving-work")
    await server.get("groups")
    assert await late[0] == 0


def counted() -> int:
    seen.append(threading.current_thread())
    return Group.objects.count()


@pytest.fixture
def pool(transactional_db: None) -> Iterator[threads.Pool]:
    seen.clear()
    go_on.clear()
    it = threads.Pool(2, "few")
    yield it
    go_on.set()
    it.disconnect()


def test_a_pool_keeps_a_connection_from_work_to_work(
    pool: threads.Pool, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "IDLE", PATIENCE)
    for _ in range(5):
        assert pool.submit(counted).result(PATIENCE) == 0
    assert len(set(seen)) == 1
    assert len(opened) == 1


async def test_a_pool_closes_what_nobody_uses(pool: threads.Pool, opened: list[Any]) -> None:
    await asyncio.wrap_future(pool.submit(counted))
    await until(lambda: opened[0].connection is None)


@pytest.mark.parametrize("stale", [0.0, PATIENCE])
def test_a_connection_that_broke_is_opened_anew(
    pool: threads.Pool, opened: list[Any], monkeypatch: pytest.MonkeyPatch, stale: float
) -> None:
    """Whether that shows in an error, or when it is looked at after a while."""

    def work() -> None:
        counted()
        connections["default"].errors_occurred = stale > 0

    monkeypatch.setattr(threads, "IDLE", PATIENCE)
    monkeypatch.setattr(threads, "STALE", stale)
    monkeypatch.setattr(type(connections["default"]), "is_usable", lambda self: False)
    pool.submit(work).result(PATIENCE)
    assert pool.submit(counted).result(PATIENCE) == 0
    assert len(set(seen)) == 1
    assert len(opened) == 2


def test_work_finds_nothing_of_a_transaction_that_was_never_left(pool: threads.Pool) -> None:
    def leave_open() -> None:
        transaction.atomic().__enter__()
        Group.objects.create(name="unfinished")

    def leave_uncommitted() -> None:
        transaction.set_autocommit(False)
        Group.objects.create(name="uncommitted")

    for work in (leave_open, leave_uncommitted):
        pool.submit(work).result(PATIENCE)
        assert pool.submit(counted).result(PATIENCE) == 0
    pool.submit(Group.objects.create, name="new").result(PATIENCE)
    pool.disconnect()
    assert pool.submit(counted).result(PATIENCE) == 1


async def test_a_connection_that_cannot_be_closed_is_dropped(
    pool: threads.Pool, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = type(connections["default"])._close

    def fail(self: Any) -> None:
        close(self)
        raise OSError("gone")

    monkeypatch.setattr(threads, "IDLE", 0.01)
    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "_close", fail)
        await asyncio.wrap_future(pool.submit(counted))
        await until(lambda: pool.submit(lambda: not connections.all(initialized_only=True)).result(PATIENCE))
    assert await asyncio.wrap_future(pool.submit(counted)) == 0
    assert len(opened) == 2


def test_a_transaction_of_the_caller_stays_open(transactional_db: None) -> None:
    with transaction.atomic():
        Group.objects.create(name="caller's")
        threads.give_connections_back()
        assert Group.objects.count() == 1


def test_work_is_done_though_the_pool_ends() -> None:
    """Also what comes when a thread tells how its work ended, and isn't waiting for more yet."""
    pool, came = threads.Pool(1, "ending"), Future[Future[int]]()

    def submit_and_end(first: Future[bool]) -> None:
        came.set_result(pool.submit(int, 3))
        pool.shutdown()

    go_on.clear()
    pool.submit(go_on.wait, PATIENCE).add_done_callback(submit_and_end)
    go_on.set()
    assert came.result(PATIENCE).result(PATIENCE) == 3
    assert pool.submit(int, 4).result(PATIENCE) == 4


def test_threads_without_work_end(pool: threads.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LIFE", 0.01)
    pool.submit(counted).result(PATIENCE)
    seen[0].join(PATIENCE)
    assert not pool.is_alive
    assert pool.submit(counted).result(PATIENCE) == 0


def test_no_work_waits_for_a_thread_that_is_held_while_another_is_free(pool: threads.Pool) -> None:
    soon = threading.Event()
    held, released = pool.submit(go_on.wait, PATIENCE), pool.submit(soon.wait, PATIENCE)
    waiting = [pool.submit(counted) for _ in range(4)]
    soon.set()
    assert [one.result(PATIENCE) for one in waiting] == [0] * 4
    assert released.result(PATIENCE)
    assert not held.done()


def test_what_work_raises_is_raised_where_it_comes_from(pool: threads.Pool) -> None:
    with pytest.raises(SystemExit):
        pool.submit(sys.exit, 3).result(PATIENCE)
    assert pool.submit(counted).result(PATIENCE) == 0


def test_a_pool_has_as_many_threads_as_it_may_and_does_all_the_work(pool: threads.Pool, opened: list[Any]) -> None:
    def held() -> int:
        seen.append(threading.current_thread())
        go_on.wait(PATIENCE)
        return Group.objects.count()

    work = [pool.submit(held) for _ in range(7)]
    go_on.set()
    assert [one.result(PATIENCE) for one in work] == [0] * 7
    assert len(set(seen)) == 2
    assert len(opened) <= 4  # each once, and once more where this machine was away for a while
