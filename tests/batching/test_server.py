"""Behind a real server: what only a socket can show."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.batching.conftest import item, until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.server


class Host:
    """The host project behind a server, with a database of its own."""

    def __init__(self, port: int, database: Path) -> None:
        self.port = port
        self.database = database

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def empty(self) -> None:
        with closing(sqlite3.connect(self.database, timeout=10)) as connection, connection:
            connection.executescript("DELETE FROM batching_batchitem; DELETE FROM batching_batch")

    def open(self, items: list[Any], query: str = "") -> socket.socket:
        """Send a batch and leave its answer in the socket."""
        body = json.dumps({"requests": items}).encode()
        sent = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        head = f"POST /api/batch{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        sent.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return sent

    def post(self, items: list[Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", "/api/batch", json.dumps({"requests": items}), headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer


SERVERS = {
    "daphne": ["-v0", "--port"],
    "uvicorn": ["--log-level=warning", "--port"],
}


@pytest.fixture
def host(started: Host) -> Iterator[Host]:
    yield started
    until(lambda: not started.rows("SELECT 1 FROM batching_batch WHERE status = 'running'"))
    started.empty()


@pytest.fixture(scope="module", params=SERVERS)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    database = tmp_path_factory.mktemp("host") / "db.sqlite3"
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.host.settings", "DATABASE_URL": f"sqlite:///{database}"}
    subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", request.param, *SERVERS[request.param], str(port), "tests.host.asgi:application"]
    process = subprocess.Popen(command, cwd=ROOT, env=env)
    try:
        until(lambda: listens(port), seconds=20)
        yield Host(port, database)
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


STATES = "SELECT state, error FROM batching_batchitem ORDER BY position"


@pytest.mark.parametrize("query", ["", "?stream=true"])
@pytest.mark.parametrize("kind", ["slow", "slow-async"])
def test_a_client_that_hangs_up_ends_its_batch(host: Host, query: str, kind: str) -> None:
    items = [item(f"/api/{kind}?seconds=4", id=str(n)) for n in range(10)]
    with host.open(items, query):
        until(lambda: host.rows("SELECT status FROM batching_batch") == [("running",)])
        time.sleep(0.3)
    began = time.monotonic()
    until(lambda: host.rows("SELECT status FROM batching_batch") == [("cancelled",)])
    assert time.monotonic() - began < 3  # each of its items would take four
    assert {state for state, _ in host.rows(STATES)} == {"cancelled"}
    assert host.post([item("/api/echo-async")])["responses"][0]["status"] == 200


def test_answers_travel_while_others_are_still_under_way(host: Host) -> None:
    with host.open([item("/api/slow?seconds=2", id="slow"), item("/api/echo", id="quick")], "?stream=true") as sent:
        received = b""
        while b'"quick"' not in received:
            received += sent.recv(65536)
        quick = time.monotonic()
        while b'"end"' not in received:
            received += sent.recv(65536)
        assert time.monotonic() - quick > 0.5


def test_chat_like_streams_travel_live(host: Host) -> None:
    with host.open([item("/api/events?count=3&pause=0.4", id="a")], "?stream=true") as sent:
        began, moments = time.monotonic(), []
        received = b""
        while b'"end", "batch_id"' not in received:
            part = sent.recv(65536)
            moments.append(time.monotonic() - began)
            received += part
        assert received.count(b'"type": "item"') == 4
        assert moments[-1] - moments[0] > 0.4


def test_a_process_that_ends_on_its_own_says_nothing(tmp_path: Path) -> None:
    """A server that speaks WSGI tells nobody when it ends, and the interpreter has closed its pools early."""
    code = """
import django
django.setup()
from batching.background import embedded
embedded.start()
[background] = embedded.workers.values()
background.wake()
print("alive", background.is_alive)
"""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.host.settings", "BATCH_RUN_IN_SERVER": "true"}
    env |= {"DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3"}
    subprocess.run([sys.executable, "-m", "django", "migrate", "-v0"], cwd=ROOT, env=env, check=True)
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("alive True\n", "", 0)
