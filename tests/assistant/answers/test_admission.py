"""How many answers are written at once: each cap, and that every place comes back."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from django.test import AsyncClient, Client

from assistant.answers import turns
from assistant.answers.admission import Admission, Bound, admission
from assistant.answers.run import Run, registry
from assistant.errors import Busy, TooManyAnswers
from assistant.models import Message
from tests import streams
from tests.upstream import Hold, Script, Upstream, broken, holding, refusing, reply, until

CHAT = "/api/agent/chat"


@pytest.fixture(autouse=True)
def every_place_comes_back() -> Iterator[None]:
    yield
    assert admission.taken() == {}


async def ask(client: AsyncClient, query: str = "", **options: Any) -> Any:
    return await client.post(f"{CHAT}{query}", {"message": "Hi"}, content_type="application/json", **options)


async def read(client: AsyncClient, query: str = "?stream=true", **options: Any) -> list[dict[str, Any]]:
    return await streams.read(await ask(client, query, **options))


def check_refused(response: Any, status: int) -> int:
    """Check that it is the contract's error, and return its Retry-After."""
    assert (response.status_code, response["Content-Type"]) == (status, "application/json")
    assert response.json() == {"error": response.json()["error"], "code": status}
    wait = int(response["Retry-After"])
    assert 1 <= wait <= 5
    return wait


@pytest.mark.parametrize("query", ["", "?stream=true"])
async def test_a_process_at_its_limit_is_503(
    async_client: AsyncClient, upstream: Upstream, settings: Any, query: str
) -> None:
    settings.CHAT_CONCURRENCY = 2
    hold = Hold()
    upstream.script = holding("One", hold=hold)
    others = [asyncio.create_task(read(async_client)) for _ in range(2)]
    await until(lambda: len(registry.running()) == 2)
    waits = [check_refused(await ask(async_client, query), 503) for _ in range(20)]
    assert len(set(waits)) > 1
    assert await Message.objects.acount() == 2
    hold.release()
    await asyncio.gather(*others)
    assert (await ask(async_client)).status_code == 200


async def test_a_caller_at_their_limit_is_429_and_another_is_not(
    async_client: AsyncClient,
    upstream: Upstream,
    settings: Any,
    as_ada: dict[str, str],
    as_bob: dict[str, str],
) -> None:
    settings.CHAT_CONCURRENCY_PER_CALLER = 1
    hold = Hold()
    upstream.scripts = [holding("One", hold=hold), reply("Two")]
    first = asyncio.create_task(read(async_client, headers=as_ada))
    await until(lambda: len(upstream.requests) == 1)
    check_refused(await ask(async_client, headers=as_ada), 429)
    check_refused(await ask(async_client, "?stream=true", headers=as_ada), 429)
    for other in (as_bob, {}):
        assert (await ask(async_client, headers=other)).status_code == 200
    hold.release()
    await first
    assert (await ask(async_client, headers=as_ada)).status_code == 200
    assert await Message.objects.acount() == 4


async def test_an_anonymous_caller_is_told_apart_by_address(
    upstream: Upstream, async_client: AsyncClient, settings: Any
) -> None:
    settings.CHAT_CONCURRENCY_PER_CALLER = 1
    hold = Hold()
    upstream.scripts = [holding("One", hold=hold), reply("Two")]
    first = asyncio.create_task(read(async_client))
    await until(lambda: len(upstream.requests) == 1)
    check_refused(await ask(async_client), 429)
    elsewhere = sync_to_async(Client(REMOTE_ADDR="127.0.0.2").post)
    assert (await elsewhere(CHAT, {"message": "Hi"}, "application/json")).status_code == 200
    hold.release()
    await first


async def test_a_replay_and_a_joined_answer_need_no_place(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.CHAT_CONCURRENCY_PER_CALLER = 1
    hold = Hold()
    upstream.script = holding("One", hold=hold)
    key = {"idempotency-key": "k"}
    first = asyncio.create_task(read(async_client, headers=key))
    await until(lambda: len(upstream.requests) == 1)
    joined = asyncio.create_task(read(async_client, headers=key))
    hold.release()
    assert await joined == await first == await read(async_client, headers=key)
    assert len(upstream.requests) == 1


async def test_a_place_is_free_when_the_end_is_heard(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    settings.CHAT_CONCURRENCY_PER_CALLER = 1
    for query in ("", "?stream=true") * 5:
        response = await ask(async_client, query)
        assert response.status_code == 200
        if query:
            await streams.read(response)


async def test_what_cannot_be_stored_holds_no_place(
    async_client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async_client.raise_request_exception = False

    def gone(message: Message) -> None:
        raise DatabaseError

    monkeypatch.setattr("assistant.answers.turns.store", gone)
    assert (await ask(async_client)).status_code == 500
    assert admission.taken() == {}


async def test_an_answer_that_cannot_begin_holds_no_place_and_is_not_running(
    async_client: AsyncClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async_client.raise_request_exception = False

    def fail(run: Run) -> None:
        raise RuntimeError

    monkeypatch.setattr("assistant.answers.run.Run.begin", fail)
    for query in ("", "?stream=true"):
        assert (await ask(async_client, query)).status_code == 500
    assert admission.taken() == {}
    assert {message.status async for message in Message.objects.all()} == {"interrupted"}


async def test_a_turn_that_nobody_comes_to_begin_is_let_go(db: None, upstream: Upstream) -> None:
    @sync_to_async
    def turn() -> None:
        asked = turns.TurnRequest(caller=AnonymousUser(), text="Hi", began=0)
        with turns.beginning(asked):
            assert admission.taken() == {("caller", "address:"): 1, ("process", ""): 1}

    await turn()
    assert [message.status async for message in Message.objects.all()] == ["interrupted"]


class Slow(int):
    """A number that takes so long to compare with that other threads come between."""

    def __le__(self, other: int) -> bool:
        time.sleep(0.001)
        return super().__le__(other)


def test_calls_at_once_never_take_more_than_there_is() -> None:
    counter, together = Admission(), threading.Barrier(8)
    bounds = [Bound("caller", 5, TooManyAnswers), Bound("all", Slow(3), Busy)]

    def come_and_go(_: int) -> int:
        refused = 0
        for _ in range(10):
            together.wait()
            with ExitStack() as held:
                try:
                    held.enter_context(counter.place(bounds))
                except Busy:
                    refused += 1
                together.wait()
        return refused

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == 5 * 10
    assert counter.taken() == {}


def test_a_refused_call_holds_nothing_under_any_bound() -> None:
    counter = Admission()
    full = Bound("all", 1, Busy)
    with ExitStack() as held:
        held.enter_context(counter.place([full]))
        with pytest.raises(Busy), counter.place([Bound("caller", 5, TooManyAnswers), full]):
            pass
        assert counter.taken() == {("all", ""): 1}
    assert counter.taken() == {}


ENDINGS = {
    "completes": reply("Hello"),
    "fails": refusing(500),
    "breaks": broken("Hel"),
    "hangs": holding("Hel"),
    "silent": Script([Hold()]),
}


async def test_the_count_comes_back_to_zero_whatever_happens(
    async_client: AsyncClient, upstream: Upstream, settings: Any
) -> None:
    """Start many answers that complete, fail, are stopped, are left before and after the first event, are refused."""
    rng = random.Random(4)
    settings.CHAT_CONCURRENCY, settings.CHAT_CONCURRENCY_PER_CALLER = 6, 5
    settings.STREAM_DISCONNECT_GRACE, settings.STREAM_TIMEOUT = 0, 1

    async def turn() -> None:
        upstream.script = ENDINGS[rng.choice(list(ENDINGS))]
        query = rng.choice(["", "?stream=true", "?stream=true&on_disconnect=cancel", "?stream=true&agent_id=nobody"])
        call = asyncio.create_task(ask(async_client, query))
        leaves = rng.random()
        if leaves < 0.3:  # while it is asked
            await asyncio.sleep(rng.random() * 0.05)
            call.cancel()
        response = (await asyncio.gather(call, return_exceptions=True))[0]
        if not getattr(response, "streaming", False):
            return
        if leaves < 0.6:  # after some events
            async for _ in response:
                if rng.random() < 0.5:
                    break
        elif leaves < 0.7 and (running := registry.running()):
            await async_client.post(f"/api/agent/messages/{rng.choice(running).message.id}/stop")
        else:
            await streams.joined(response)

    for _ in range(6):
        await asyncio.gather(*(turn() for _ in range(12)))
        counted = admission.taken()
        assert counted.get(("process", ""), 0) <= 6
    await until(lambda: not registry.running(), seconds=20)
    assert admission.taken() == {}
    assert not await Message.objects.filter(status="running").aexists()
