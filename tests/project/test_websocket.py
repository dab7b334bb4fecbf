"""The service's WebSocket through its own server: who connects, what is cut, what is held, and how it stops."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector

from assistant.api.verifier import Verifier
from tests.processes import PATIENCE, ROOT, Served, serving, serving_with_uvicorn
from tests.upstream import Hold, Upstream, holding, reply, until
from tests.wire.server.test_websocket import HANDSHAKE

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as it:
        yield it


@pytest.fixture(scope="module")
def service(upstream: Upstream) -> Iterator[Served]:
    with serving(OPENAI_BASE_URL=upstream.url) as it:
        yield it


@asynccontextmanager
async def connected(service: Served, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
    where = f"{service.url}/ws/agent/chat"
    async with ClientSession() as session, session.ws_connect(where, headers=headers) as socket:
        yield socket


async def ask(socket: ClientWebSocketResponse, **frame: Any) -> dict[str, Any]:
    """Send a frame and return the next that comes."""
    await socket.send_json(frame)
    return await hear(socket)


def documented(language: str) -> str:
    """Return the example of the documentation's section on WebSockets."""
    section = (ROOT / "docs" / "api.md").read_text().partition("\n## WebSocket\n")[2]
    return section.partition(f"```{language}\n")[2].partition("```")[0]


async def hear(socket: ClientWebSocketResponse) -> dict[str, Any]:
    frame: dict[str, Any] = await socket.receive_json(timeout=PATIENCE)
    return frame


async def test_uvicorn_serves_it_too(upstream: Upstream) -> None:
    upstream.script = reply("Hello")
    with serving_with_uvicorn(OPENAI_BASE_URL=upstream.url, BODY_MAX_BYTES="99") as service:
        refused = await asyncio.to_thread(shake_hands, service, Authorization="Bearer nonsense")
        assert (refused.status_code, refused.json()["code"]) == (401, 401)
        async with connected(service) as socket, connected(service) as idle:
            assert (await ask(socket, type="chat", message="Hi"))["event"]["type"] == "start"
            assert (await hear(socket))["event"]["content"] == "Hello"
            assert (await hear(socket))["event"]["type"] == "end"
            await socket.send_str("x" * 100)
            assert (await socket.receive(PATIENCE)).data == 1009
            service.process.terminate()
            assert (await idle.receive(PATIENCE)).data == 1012


def shake_hands(service: Served, path: str = "/ws/agent/chat", **headers: str) -> requests.Response:
    """Return the response to a handshake that isn't accepted."""
    return requests.get(f"{service.url}{path}", headers=HANDSHAKE | headers, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/ws/agent/chat", {"Origin": "http://evil.example"}, 403),
        ("/ws/agent/chat", {"Origin": "null"}, 403),
        ("/ws/agent/chat", {"Authorization": "Bearer nonsense"}, 401),
        ("/ws/agent/chat", {"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ("/ws/agent/chat", {"X-Forwarded-For": "192.0.2.1"}, 403),
        ("/ws/agent/chat", {"Daphne-Root-Path": "/ws"}, 400),
        ("/ws/agent", {}, 403),
        ("/api/agent/chat", {}, 403),
    ],
)
def test_who_may_not_connect_is_told_why(service: Served, path: str, headers: dict[str, str], status: int) -> None:
    response = shake_hands(service, path, **headers)
    assert (response.status_code, response.json()["code"]) == (status, status)
    assert response.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


async def test_a_connection_is_logged_under_its_id(service: Served, upstream: Upstream) -> None:
    upstream.script = reply("Hello")
    async with connected(service, **{"X-Request-ID": "mine-1"}) as socket:
        assert socket._response.headers["X-Request-ID"] == "mine-1"
        message_id = (await ask(socket, type="chat", message="Secret"))["message_id"]
        await until(lambda: f"request=mine-1 socket=reading message={message_id} after=0" in service.log())
    await until(lambda: "request=mine-1 socket=closed code=1000" in service.log())
    assert "Secret" not in service.log()


def test_the_example_in_python_works(service: Served, upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    upstream.script = reply("Quantum", " computing")
    example = documented("python").replace("http://localhost:8000", service.url).replace('"Bearer sk_..."', '""')
    exec(example, {})  # noqa: S102  # it is the test
    assert capsys.readouterr().out == "Quantum computing"


async def test_no_cut_loses_an_event_or_brings_one_twice(service: Served, upstream: Upstream) -> None:
    words = [f" word{number}" for number in range(40)]
    upstream.script = reply(*words, pause=0.03)
    cuts = 0
    while cuts < 100:  # on a busy machine words come together, and an answer has fewer events to cut at
        cuts += sum(await asyncio.gather(*(read_in_pieces(service, "".join(words)) for _ in range(8))))


async def read_in_pieces(service: Served, text: str) -> int:
    """Read an answer over connections that are cut after a few events; return how many were."""
    verifier, said, cuts, message_id = Verifier(), "", 0, None
    while not verifier.ended:
        async with connected(service) as socket:
            asked = {"type": "chat", "message": "Hi"}
            if message_id:
                asked = {"type": "resume", "message_id": message_id, "after": verifier.number}
            await socket.send_json(asked)
            for _ in range(random.randint(not message_id, 3)):
                frame = await hear(socket)
                message_id = frame["message_id"]
                verifier.see(frame["id"], frame["event"])
                said += frame["event"].get("content", "")
                if verifier.ended:
                    break
            else:
                cuts += 1
            connection = socket._response.connection
            assert connection
            assert connection.transport
            connection.transport.abort()
    verifier.close()
    assert said == text
    return cuts


async def test_two_hundred_connections_hold_no_thread_and_no_database(service: Served, upstream: Upstream) -> None:
    upstream.script = holding("Hello")
    async with ClientSession(connector=TCPConnector(limit=0)) as session:

        async def answered() -> None:
            socket = await session.ws_connect(f"{service.url}/ws/agent/chat")
            await ask(socket, type="chat", message="Hi", on_disconnect="cancel")
            assert (await hear(socket))["event"]["content"] == "Hello"

        for _ in range(10):
            await asyncio.gather(*(answered() for _ in range(20)))
        threads, files = held(service)
        assert threads < 30
        assert files < 60  # what few threads have had: SQLite keeps some open for the next connection


def held(service: Served) -> tuple[int, int]:
    """Return how many threads a process has, and how many files of the database it has open."""
    process = Path(f"/proc/{service.process.pid}")
    files = [str(link.readlink()) for link in (process / "fd").iterdir() if link.is_symlink()]
    return len(list((process / "task").iterdir())), sum(".sqlite3" in file for file in files)


async def test_a_service_that_stops_lets_answers_finish_and_takes_no_new_ones(upstream: Upstream) -> None:
    hold = Hold()
    upstream.script = holding("One", hold=hold, then=[" two"])
    with serving(OPENAI_BASE_URL=upstream.url) as service:
        async with connected(service) as idle, connected(service) as busy:
            await ask(busy, type="chat", message="Hi")
            assert (await hear(busy))["event"]["content"] == "One"
            service.process.terminate()
            assert (await idle.receive(PATIENCE)).data == 1012
            refused = await ask(busy, type="chat", message="Hi")
            assert (refused["type"], refused["code"], refused["retry_after"]) == ("refused", 503, 2)
            hold.release()
            assert (await hear(busy))["event"]["content"] == " two"
            assert (await hear(busy))["event"]["finish_reason"] == "stop"
            assert (await busy.receive(PATIENCE)).data == 1012
        assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0


async def test_a_service_that_cannot_wait_ends_answers_with_an_error(upstream: Upstream) -> None:
    upstream.script = holding("One")
    with serving(OPENAI_BASE_URL=upstream.url, SHUTDOWN_GRACE="0.2") as service:
        async with connected(service) as socket:
            await ask(socket, type="chat", message="Hi")
            await hear(socket)
            service.process.terminate()
            last = (await hear(socket))["event"]
            assert (last["type"], last["code"], last["retryable"]) == ("error", 503, True)
            assert (await socket.receive(PATIENCE)).data == 1012
        assert await asyncio.to_thread(service.process.wait, PATIENCE) == 0
        assert "Traceback" not in service.log()
