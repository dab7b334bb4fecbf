"""One service of several processes, through HTTP: coming back, stopping, leaving, and what is left of a dead one."""

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from assistant.api.verifier import verify
from tests import streams
from tests.processes import Served, serving
from tests.reconnects import read_in_pieces, seeded
from tests.redis_server import RedisServer, redis_server
from tests.upstream import Hold, Script, Upstream, deltas, holding, reply, until

pytestmark = pytest.mark.server

GRACE = 0.5


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def env(redis: RedisServer, upstream: Upstream, shared_home: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": upstream.url,
        "REDIS_URL": redis.url,
        "ASSISTANT_DATA_DIR": shared_home,
        "STREAM_DISCONNECT_GRACE": str(GRACE),
    }


@pytest.fixture(scope="module")
def pair(env: dict[str, str]) -> Iterator[list[Served]]:
    """Two processes of one service that share a database and a Redis."""
    with serving(**env) as first, serving(**env) as second:
        yield [first, second]


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session:
        yield session


class Reader:
    """A client that reads a stream event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.received = b""

    async def event(self) -> dict[str, Any]:
        """Return the next event."""
        frame = await self.response.content.readuntil(b"\n\n")
        self.received += frame
        if frame.startswith(b":"):
            return await self.event()
        event: dict[str, Any] = json.loads(frame.partition(b"data: ")[2])
        return event

    async def rest(self, after: int = 0) -> list[dict[str, Any]]:
        """Return all events, once the stream has closed."""
        self.received += await self.response.content.read()
        return verify(self.received, after=after)


@asynccontextmanager
async def asking(http: aiohttp.ClientSession, it: Served, query: str = "") -> AsyncIterator[tuple[Reader, str]]:
    """Ask for a stream; the reader has its first event, which names the message."""
    async with http.post(f"{it.url}/api/agent/chat?stream=true{query}", json={"message": "Hi"}) as response:
        assert response.status == 200, await response.text()
        reader = Reader(response)
        yield reader, (await reader.event())["message_id"]
        response.close()


@asynccontextmanager
async def following(http: aiohttp.ClientSession, it: Served, message_id: str, after: int = 0) -> AsyncIterator[Reader]:
    async with http.get(where(it, message_id, f"/stream?after={after}")) as response:
        assert response.status == 200, await response.text()
        yield Reader(response)
        response.close()


def where(it: Served, message_id: str, what: str = "") -> str:
    return f"{it.url}/api/agent/messages/{message_id}{what}"


async def message(http: aiohttp.ClientSession, it: Served, message_id: str) -> dict[str, Any]:
    async with http.get(where(it, message_id)) as response:
        found: dict[str, Any] = await response.json()
        return found


async def cut_everywhere(http: aiohttp.ClientSession, writer: Served, readers: list[Served], random: Random) -> int:
    """Have one answer read in pieces by many, live and finished, and in one piece by one; return how many cuts."""
    urls = [each.url for each in readers]
    async with asking(http, writer) as (reader, message_id):
        live = [read_in_pieces(http, urls, message_id, random) for _ in range(12)]
        _, *pieces = await asyncio.gather(reader.rest(), *live)
    pieces += [await read_in_pieces(http, urls, message_id, random) for _ in range(3)]
    assert all(piece.stream == reader.received for piece in pieces)
    return sum(piece.cuts for piece in pieces)


async def cut_often(http: aiohttp.ClientSession, writer: Served, readers: list[Served]) -> None:
    with seeded() as random:
        cuts = 0
        while cuts < 200:  # on a busy machine deltas come together, and an answer has fewer events to cut at
            cuts += await cut_everywhere(http, writer, readers, random)


SLOWLY = reply(*(f"{number} é\u2028😀" for number in range(100)), pause=0.03)


async def test_hundreds_of_cuts_lose_nothing(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.script = SLOWLY
    await cut_often(http, pair[0], [pair[0]])


async def test_hundreds_of_cuts_in_another_process_lose_nothing(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.script = SLOWLY
    await cut_often(http, pair[0], [pair[1], pair[1], pair[0]])


async def test_another_process_stops_an_answer(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.requests.clear()
    upstream.script = holding("One")
    async with asking(http, pair[0]) as (reader, message_id):
        assert (await reader.event())["content"] == "One"
        for _ in range(2):
            async with http.post(where(pair[1], message_id, "/stop")) as response:
                stopped = await response.json()
            assert (response.status, stopped["status"], stopped["response"]) == (200, "cancelled", "One")
        assert (await reader.rest())[-1]["finish_reason"] == "cancelled"
    await until(lambda: upstream.requests[0].closed_at, seconds=1)


async def test_a_reader_in_another_process_keeps_an_answer_going(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.requests.clear()
    hold = Hold()
    upstream.script = Script([*deltas("One"), hold, *deltas(" two"), Hold()])
    async with asking(http, pair[0]) as (_, message_id):
        elsewhere = await http.get(where(pair[1], message_id, "/stream"))
        reader = Reader(elsewhere)
        assert [(await reader.event())["type"] for _ in range(2)] == ["start", "token"]
    await asyncio.sleep(4 * GRACE)  # far longer than it would go on without a reader
    hold.release()
    assert (await reader.event())["content"] == " two"
    left = time.monotonic()
    elsewhere.close()
    await until(lambda: upstream.requests[0].closed_at)
    assert GRACE <= upstream.requests[0].closed_at - left < GRACE + 1
    assert (await message(http, pair[1], message_id))["status"] == "cancelled"


async def test_another_process_has_the_text_so_far(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.script = holding("One")
    async with asking(http, pair[0], "&on_disconnect=cancel") as (reader, message_id):
        await reader.event()
        async with following(http, pair[1], message_id, after=1) as elsewhere:
            await elsewhere.event()
        found = await message(http, pair[1], message_id)
    assert (found["status"], found["response"]) == ("running", "One")


async def test_a_key_joins_the_answer_of_another_process(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    asked = {"json": {"message": "Hi"}, "headers": {"Idempotency-Key": "joined"}}
    first = asyncio.create_task(chat(http, pair[0], asked))
    requests = len(upstream.requests)
    await until(lambda: len(upstream.requests) > requests)
    second = asyncio.create_task(chat(http, pair[1], asked))
    hold.release()
    assert (await first)["response"] == "One two"
    assert await second == await first


async def chat(http: aiohttp.ClientSession, it: Served, asked: dict[str, Any]) -> Any:
    async with http.post(f"{it.url}/api/agent/chat", **asked) as response:
        assert response.status == 200, await response.text()
        return await response.json()


def let_lease_end(home: str, message_id: str) -> None:
    """Make half a minute pass for whoever looks at the lease of a message."""
    with closing(sqlite3.connect(Path(home, "db.sqlite3"), timeout=20)) as database:
        long_ago = "2000-01-01 00:00:00"
        database.execute("UPDATE assistant_message SET lease_expires_at = ? WHERE id = ?", (long_ago, message_id))
        database.commit()


INTERRUPTED = {
    "type": "error",
    "message": "The service stopped while it was answering.",
    "code": 503,
    "retryable": True,
}


async def test_readers_elsewhere_hear_that_a_process_was_killed(
    pair: list[Served], env: dict[str, str], upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    upstream.script = holding("One", " two")
    with serving(**env) as killed:
        async with asking(http, killed) as (_, message_id), following(http, pair[1], message_id) as elsewhere:
            said = ""
            while said != "One two":
                said += (await elsewhere.event()).get("content", "")
            killed.process.kill()
            # Nobody has to ask: the others look every ten seconds who is gone.
            heard = await elsewhere.rest()
    assert heard[-1] == INTERRUPTED
    found = await message(http, pair[0], message_id)
    while found["status"] == "running":  # its row comes after its last event
        await asyncio.sleep(0.05)
        found = await message(http, pair[0], message_id)
    assert (found["status"], found["response"]) == ("interrupted", "One two")
    async with following(http, pair[0], message_id) as again:
        assert await again.rest() == heard


async def test_a_paused_process_that_wakes_agrees_with_what_others_ended(
    pair: list[Served], upstream: Upstream, http: aiohttp.ClientSession, shared_home: str
) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    async with asking(http, pair[0]) as (reader, message_id):
        await reader.event()
        pair[0].process.send_signal(signal.SIGSTOP)
        let_lease_end(shared_home, message_id)
        ended = await message(http, pair[1], message_id)
        hold.release()
        pair[0].process.send_signal(signal.SIGCONT)
        assert (await reader.rest())[-1] == INTERRUPTED
    assert ended["status"] == "interrupted"
    assert await message(http, pair[0], message_id) == await message(http, pair[1], message_id) == ended


async def test_a_killed_processs_answers_end_with_their_lease_or_when_it_starts_again(
    upstream: Upstream, http: aiohttp.ClientSession, home: str
) -> None:
    upstream.script = holding("One")
    env = {"OPENAI_BASE_URL": upstream.url, "ASSISTANT_DATA_DIR": home}
    with serving(**env) as survivor:
        with serving(**env) as killed:
            async with asking(http, killed) as (reader, lapsed), asking(http, killed) as (_, kept):
                await reader.event()
                for method, what in (("GET", "/stream"), ("POST", "/stop")):
                    async with http.request(method, where(survivor, lapsed, what)) as response:
                        assert response.status == 409
                killed.process.kill()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await reader.rest()
        let_lease_end(home, lapsed)
        found = await message(http, survivor, lapsed)
        assert (found["status"], found["error"]["code"]) == ("interrupted", 503)
        # What the client has isn't known; whatever it says, it hears how it ended.
        for after in (0, 1, 2, 3, 99):
            async with following(http, survivor, lapsed, after) as again:
                assert (await again.rest(after))[-1] == INTERRUPTED
        with serving(**env) as started:
            assert (await message(http, started, kept))["status"] == "interrupted"


async def test_local_readers_hear_everything_while_redis_is_gone(
    upstream: Upstream, http: aiohttp.ClientSession
) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    with redis_server() as redis, serving(OPENAI_BASE_URL=upstream.url, REDIS_URL=redis.url) as it:
        async with asking(http, it) as (reader, message_id):
            redis.process.kill()
            redis.process.wait()
            hold.release()
            assert streams.text(await reader.rest()) == "One two"
            async with following(http, it, message_id) as stored:
                assert await stored.rest() == verify(reader.received)
        async with http.get(f"{it.url}/readyz") as ready:
            assert (ready.status, "redis" in (await ready.json())["missing"]) == (503, True)
        assert it.log().count("redis=writing state=failing") == 1
