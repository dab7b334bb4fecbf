"""Clients that leave, through a real server and raw sockets: before their stream begins, and in the middle of it."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.processes import PATIENCE, Served, serving
from tests.upstream import Hold, Script, Upstream, holding, until

pytestmark = pytest.mark.server

GRACE = 0.5
# The model's call is closed within a second of the decision.
SOON = 1.0
SILENT = Script([Hold()])


@pytest.fixture(scope="module")
def model() -> Iterator[Upstream]:
    with Upstream().in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def it(model: Upstream, shared_home: str) -> Iterator[Served]:
    env = {"OPENAI_BASE_URL": model.url, "ASSISTANT_DATA_DIR": shared_home, "STREAM_DISCONNECT_GRACE": str(GRACE)}
    with serving(**env) as it:
        yield it


@pytest.fixture
def upstream(model: Upstream) -> Upstream:
    model.requests.clear()
    return model


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def asked(it: Served, policy: str) -> AsyncIterator[Connection]:
    """Send a chat and leave when the block ends, with a reset."""
    address = urlsplit(it.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps({"message": "Hi"}).encode()
    head = f"POST /api/agent/chat?stream=true&on_disconnect={policy} HTTP/1.1\r\nHost: localhost\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_until(reader: asyncio.StreamReader, text: bytes) -> str:
    """Read to some text; return the message's id."""
    seen = b""
    while text not in seen:
        seen += await asyncio.wait_for(reader.read(10_000), PATIENCE)
    return seen.partition(b'"message_id": "')[2].partition(b'"')[0].decode()


async def status(it: Served, message_id: str, wanted: str) -> dict[str, Any]:
    """Return the message once it has a status."""
    end = time.monotonic() + PATIENCE
    where = f"{it.url}/api/agent/messages/{message_id}"
    while True:
        found: dict[str, Any] = (await asyncio.to_thread(requests.get, where, timeout=PATIENCE)).json()
        if found["status"] == wanted:
            return found
        assert time.monotonic() < end, found


@pytest.mark.parametrize(("policy", "grace"), [("grace", GRACE), ("cancel", 0)])
@pytest.mark.parametrize(("script", "shown", "text"), [(SILENT, b'"start"', ""), (holding("One"), b"One", "One")])
async def test_a_client_that_leaves_its_stream_ends_the_models_call(
    it: Served, upstream: Upstream, policy: str, grace: float, script: Script, shown: bytes, text: str
) -> None:
    upstream.script = script
    async with asked(it, policy) as (reader, _):
        message_id = await read_until(reader, shown)
        await until(lambda: upstream.requests)
    left = time.monotonic()
    await until(lambda: upstream.requests[0].closed_at)
    assert grace <= upstream.requests[0].closed_at - left < grace + SOON
    assert (await status(it, message_id, "cancelled"))["response"] == text


async def leave_early(it: Served, home: str, policy: str, taken_up: Callable[[], bool]) -> float:
    """Leave while the view still waits to store the turn: its response has no reader when it comes. Return when it was.

    Who leaves before the view has begun has asked for nothing, and asks again.
    """
    pause = 0.05
    while True:
        with closing(sqlite3.connect(Path(home, "db.sqlite3"), timeout=PATIENCE)) as database:
            database.execute("BEGIN IMMEDIATE")
            async with asked(it, policy) as (_, writer):
                await writer.drain()
                await asyncio.sleep(pause)
            database.rollback()
        left = time.monotonic()
        with suppress(AssertionError):
            await until(taken_up, seconds=GRACE + SOON)
            return left
        pause *= 2
        assert pause < PATIENCE


def cancelled(home: str) -> int:
    """Return how many answers were cancelled so far."""
    with closing(sqlite3.connect(Path(home, "db.sqlite3"), timeout=PATIENCE)) as database:
        (count,) = database.execute("SELECT count(*) FROM assistant_message WHERE status = 'cancelled'").fetchone()
    return int(count)


@pytest.mark.parametrize(("policy", "grace"), [("grace", GRACE), ("cancel", 0)])
async def test_a_client_that_leaves_before_its_stream_begins_ends_the_models_call(
    it: Served, upstream: Upstream, shared_home: str, policy: str, grace: float
) -> None:
    upstream.script = SILENT
    before = cancelled(shared_home)
    left = await leave_early(it, shared_home, policy, lambda: cancelled(shared_home) > before)
    # With no grace it is over before the model was asked.
    await until(lambda: all(request.closed_at for request in upstream.requests))
    assert time.monotonic() - left < grace + SOON


async def test_an_answer_goes_on_to_its_end_where_it_was_asked_to(
    it: Served, upstream: Upstream, shared_home: str
) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    async with asked(it, "continue") as (reader, _):
        message_id = await read_until(reader, b"One")
    await leave_early(it, shared_home, "continue", lambda: len(upstream.requests) > 1)
    await asyncio.sleep(2 * GRACE)
    assert not any(request.closed_at for request in upstream.requests)
    hold.release()
    assert (await status(it, message_id, "completed"))["response"] == "One two"


@pytest.mark.parametrize(("script", "shown", "text"), [(SILENT, b'"start"', ""), (holding("One"), b"One", "One")])
async def test_stop_ends_the_models_call(
    it: Served, upstream: Upstream, script: Script, shown: bytes, text: str
) -> None:
    upstream.script = script
    async with asked(it, "continue") as (reader, _):
        message_id = await read_until(reader, shown)
        await until(lambda: upstream.requests)
        told = time.monotonic()
        where = f"{it.url}/api/agent/messages/{message_id}/stop"
        stopped = (await asyncio.to_thread(requests.post, where, timeout=PATIENCE)).json()
        await until(lambda: upstream.requests[0].closed_at)
        await read_until(reader, b'"finish_reason": "cancelled"')
    assert upstream.requests[0].closed_at - told < SOON
    assert (stopped["status"], stopped["response"]) == ("cancelled", text)
