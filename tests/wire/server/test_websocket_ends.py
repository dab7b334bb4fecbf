"""WebSockets behind the server: told when their application fails and when the process stops."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.processes import PATIENCE, Served
from tests.wire.server.serving import memory, own, terminate

pytestmark = pytest.mark.server

APPLICATION = """
sent = 0

async def application(scope, receive, send):
    global sent
    if scope["type"] == "http":
        return await answer(send, str(sent))
    if scope["type"] != "websocket":
        raise ValueError(scope["type"])
    await receive()
    if scope["path"] == "/closed":
        return await send({"type": "websocket.close"})
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "fail":
            raise KeyError("oops")
        while message["text"] == "flood" and sent < 200_000_000:
            await send({"type": "websocket.send", "text": "x" * 10_000})
            sent += 10_000
        await send({"type": "websocket.send", "text": message["text"]})
"""


@pytest.fixture
def it(tmp_path: Path) -> Iterator[Served]:
    with own(tmp_path, APPLICATION, SHUTDOWN_GRACE=0.2, WRITE_TIMEOUT=60) as served:
        yield served


async def test_messages_travel_both_ways(it: Served) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(it.url) as websocket:
        await websocket.send_str("hello")
        assert await websocket.receive_str(timeout=PATIENCE) == "hello"


async def test_one_that_isnt_accepted_is_a_403(it: Served) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await client.ws_connect(f"{it.url}/closed")


async def test_an_application_that_fails_is_told_to_its_client(it: Served) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(it.url) as websocket:
        await websocket.send_str("fail")
        assert (await websocket.receive(PATIENCE)).type == aiohttp.WSMsgType.CLOSE
        assert websocket.close_code == 1011
    assert "KeyError: 'oops'" in it.log()


async def test_a_stop_is_told_to_its_client(it: Served) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(it.url) as websocket:
        await websocket.send_str("hello")
        await websocket.receive_str(timeout=PATIENCE)
        terminate(it)
        assert (await websocket.receive(PATIENCE)).type == aiohttp.WSMsgType.CLOSE
        assert websocket.close_code == 1012
    assert it.process.wait(PATIENCE) == 0


async def test_a_stalled_reader_costs_little(it: Served) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(it.url) as websocket:
        before = memory(it)
        await websocket.send_str("flood")
        await websocket.receive_str(timeout=PATIENCE)
        websocket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
        counts = [-1, 0]
        async with asyncio.timeout(PATIENCE):
            while counts[-1] != counts[-2] or not counts[-1]:
                await asyncio.sleep(0.1)
                async with client.get(it.url) as response:
                    counts.append(int(await response.text()))
        assert counts[-1] < 50_000_000
        assert memory(it) - before < 2_000
