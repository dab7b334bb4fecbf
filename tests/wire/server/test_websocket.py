"""The server's WebSockets as a real process. Each connection names its application: the query is its source."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import quote

import pytest
import requests
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType

from tests.processes import PATIENCE, Served
from tests.upstream import until
from tests.wire.server.test_server import served

pytestmark = pytest.mark.server

APPLICATION = """
import textwrap, urllib.parse
import wire.server.websocket
from wire.server.limits import ServerLimits

Server.__init__.__kwdefaults__["limits"] = ServerLimits(WRITE_TIMEOUT=1.0, SHUTDOWN_GRACE=0.0)

async def application(scope, receive, send):
    if scope["type"] != "websocket":
        raise ValueError(scope["type"])
    source = urllib.parse.unquote(scope["query_string"].decode())
    names = {"asyncio": asyncio}
    exec("async def play(scope, receive, send):\\n" + textwrap.indent(source, "    "), names)
    await names["play"](scope, receive, send)
"""
ACCEPT = """
assert await receive() == {"type": "websocket.connect"}
await send({"type": "websocket.accept", "headers": [(b"x-request-id", b"7")]})
"""
ECHO = """
while (message := await receive())["type"] == "websocket.receive":
    await send({**message, "type": "websocket.send"})
"""
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served") / "served.py", APPLICATION) as it:
        yield it


@asynccontextmanager
async def connected(server: Served, then: str, **options: Any) -> AsyncIterator[ClientWebSocketResponse]:
    where = f"{server.url}/?{quote(ACCEPT + dedent(then))}"
    async with ClientSession() as session, session.ws_connect(where, max_msg_size=0, **options) as socket:
        yield socket


async def heard(socket: ClientWebSocketResponse) -> Any:
    """Return what the server says next, a text or a close code; None where it hangs up."""
    message = await socket.receive(PATIENCE)
    return None if message.type is WSMsgType.CLOSED else message.data


def transport(socket: ClientWebSocketResponse) -> Any:
    connection = socket._response.connection
    assert connection
    return connection.transport


def shake_hands(server: Served, application: str, without: str = "") -> requests.Response:
    """Return the response to a handshake that isn't accepted."""
    headers = {name: value for name, value in HANDSHAKE.items() if name != without}
    return requests.get(f"{server.url}/?{quote(dedent(application))}", headers=headers, timeout=PATIENCE)


async def test_text_and_bytes_come_whole(server: Served) -> None:
    async with connected(server, ECHO) as socket:
        assert socket._response.headers["X-Request-ID"] == "7"
        for text in ("é", "x" * 2**21):
            await socket.send_str(text)
            assert await heard(socket) == text
        await socket.send_bytes(b"\0\xff")
        assert await heard(socket) == b"\0\xff"


async def test_what_is_sent_may_be_larger_than_what_may_come(server: Served) -> None:
    async with connected(server, 'await send({"type": "websocket.send", "text": "x" * 2**22})') as socket:
        assert len(await heard(socket)) == 2**22


async def test_what_comes_may_not_be_larger_than_a_body(server: Served) -> None:
    async with connected(server, ECHO) as socket:
        await socket.send_str("x" * (2**21 + 1))
        assert await heard(socket) == 1009


async def test_what_comes_in_pieces_may_not_be_larger_either(server: Served) -> None:
    async with connected(server, ECHO) as socket:
        for first in (0x01, 0x00, 0x80):
            transport(socket).write(frame(first, b"x" * 2**20))
        assert await heard(socket) == 1009


async def test_nothing_is_unpacked(server: Served) -> None:
    async with connected(server, ECHO, compress=15) as socket:
        assert socket.compress == 0
        transport(socket).write(frame(0xC1, bytes(100)))
        assert await heard(socket) == 1002


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame with any first byte, masked with zeros."""
    return bytes([first, 0x80 | 127]) + len(payload).to_bytes(8) + bytes(4) + payload


async def test_an_application_closes_with_any_code(server: Served) -> None:
    for code in (1000, 1001, 1003, 1008, 1009, 1011, 1012, 4000):
        async with connected(server, f'await send({{"type": "websocket.close", "code": {code}}})') as socket:
            assert await heard(socket) == code


@pytest.mark.parametrize("end", ["return", 'raise KeyError("secret")', "raise asyncio.CancelledError"])
async def test_an_application_that_ends_badly_ends_its_connection(server: Served, end: str) -> None:
    async with connected(server, end) as socket:
        assert await heard(socket) == 1011
    response = shake_hands(server, end)
    assert (response.status_code, response.json()["code"]) == (500, 500)
    assert "secret" not in f"{response.reason} {response.headers} {response.text}"


def test_an_application_refuses_with_a_response(server: Served) -> None:
    refusal = """
        assert "websocket.http.response" in scope["extensions"]
        headers = [(b"content-type", b"text/plain"), (b"retry-after", b"7")]
        await send({"type": "websocket.http.response.start", "status": 429, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"too ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"many"})
    """
    response = shake_hands(server, refusal)
    assert (response.status_code, response.text) == (429, "too many")
    assert (response.headers["Retry-After"], response.headers["Connection"]) == ("7", "close")


def test_an_application_refuses_without_one(server: Served) -> None:
    response = shake_hands(server, 'await send({"type": "websocket.close"})')
    assert (response.status_code, response.json()["code"]) == (403, 403)


@pytest.mark.parametrize("missing", ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Connection"])
def test_what_is_no_handshake_is_refused_in_json(server: Served, missing: str) -> None:
    response = shake_hands(server, ACCEPT, without=missing)
    assert (response.status_code, response.json()["code"]) == (400, 400)


async def test_a_client_that_takes_nothing_stops_who_writes_and_is_dropped(server: Served) -> None:
    writing = """
        async def write():
            for count in range(1000):
                print("written", count)
                await send({"type": "websocket.send", "text": "x" * 100_000})
        writer = asyncio.create_task(write())
        print("left", (await receive())["type"])
    """
    async with connected(server, writing) as socket:
        transport(socket).pause_reading()
        await until(lambda: "left websocket.disconnect" in server.log())
    assert server.log().partition("left")[0].count("written") < 100


async def test_an_application_that_takes_nothing_stops_who_sends(server: Served) -> None:
    sent = 0
    async with connected(server, "await asyncio.sleep(600)") as socket:
        while sent < 200 and await is_sent(socket, b"x" * 2**20):
            sent += 1
        transport(socket).abort()
    assert 0 < sent < 50


async def is_sent(socket: ClientWebSocketResponse, data: bytes) -> bool:
    try:
        await asyncio.wait_for(socket.send_bytes(data), 1)
    except TimeoutError:
        return False
    return True


async def test_a_client_that_says_nothing_is_pinged_and_dropped_if_it_does_not_answer(tmp_path: Path) -> None:
    quick = "wire.server.websocket.PING_SECONDS, wire.server.websocket.PONG_SECONDS = 0.5, 2\n"
    with served(tmp_path / "served.py", APPLICATION + quick) as server:
        async with connected(server, ECHO, autoping=False) as silent, connected(server, ECHO) as there:
            answering = asyncio.create_task(heard(there))
            assert (await silent.receive(PATIENCE)).type is WSMsgType.PING
            assert await heard(silent) is None
            await there.send_str("still here")
            assert await answering == "still here"
