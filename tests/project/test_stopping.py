"""How the service ends: what is open may finish, and is told when it can't."""

import json
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.processes import PATIENCE, Served, serving
from tests.streams import check, parse, text
from tests.upstream import Hold, Upstream, holding
from tests.wire.server.serving import Peer, connected, terminate, until

pytestmark = pytest.mark.server

CHAT = {"message": "Go on"}
BATCH = {"requests": [{"id": "a", "method": "POST", "path": "/api/agent/chat", "body": CHAT}]}
STOPPING = {"error": "The service is stopping.", "code": 503}


@contextmanager
def service(hold: Hold, grace: float = PATIENCE) -> Iterator[Served]:
    with (
        Upstream(holding("Hello", hold=hold, then=[" world"])).in_thread() as upstream,
        serving(ASSISTANT_MODEL="openai:test", OPENAI_BASE_URL=upstream.url, SHUTDOWN_GRACE=str(grace)) as it,
    ):
        try:
            yield it
        finally:
            hold.release()


def post(peer: Peer, path: str, body: Any) -> None:
    content = json.dumps(body)
    peer.ask(path, "POST", Content_Type="application/json", Content_Length=str(len(content)))
    peer.send(content.encode())


def answer(peer: Peer) -> tuple[int, dict[str, str], Any]:
    """Read one whole response with a Content-Length."""
    head = peer.read_until(b"\r\n\r\n")
    head, _, content = head.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(content) < int(headers["content-length"]):
        content += peer.socket.recv(65_536)
    return int(first.split()[1]), headers, json.loads(content)


def unchunked(data: bytes) -> bytes:
    """Return the content of a chunked body, which has to be whole."""
    content = b""
    while True:
        size, _, rest = data.partition(b"\r\n")
        if not int(size, 16):
            assert rest == b"\r\n"
            return content
        content, data = content + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def events(seen: bytes) -> list[tuple[int, dict[str, Any]]]:
    return parse(unchunked(seen.partition(b"\r\n\r\n")[2]))


def rows(it: Served, query: str) -> list[Any]:
    with closing(sqlite3.connect(Path(it.data, "db.sqlite3"))) as database:
        return database.execute(query).fetchall()


def stop_and_wait_for_the_drain(it: Served) -> None:
    terminate(it)
    until(lambda: "state=draining" in it.log())


def test_what_is_open_finishes_and_nothing_new_begins() -> None:
    hold = Hold()
    with ExitStack() as stack:
        it = stack.enter_context(service(hold))
        stream, chat, batch, kept = [stack.enter_context(connected(it)) for _ in range(4)]
        post(stream, "/api/agent/chat?stream=true", CHAT)
        seen = stream.read_until(b"Hello")
        post(chat, "/api/agent/chat", CHAT)
        post(batch, "/api/batch", BATCH)
        kept.ask("/healthz")
        assert answer(kept)[0] == 200
        until(lambda: len(rows(it, "SELECT 1 FROM assistant_message WHERE status = 'running'")) == 3)
        stop_and_wait_for_the_drain(it)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{it.url}/healthz", timeout=5)
        post(kept, "/api/agent/chat?stream=true", CHAT)
        status, headers, body = answer(kept)
        assert (status, headers["connection"], body) == (503, "close", STOPPING)
        assert int(headers["retry-after"]) > 0
        assert kept.read_rest() == (b"", False)
        assert it.process.poll() is None
        hold.release()
        pairs = events(seen + stream.read_rest()[0])
        assert pairs[-1][1]["type"] == "end"
        assert text(check(pairs)) == "Hello world"
        assert answer(chat)[2]["response"] == "Hello world"
        assert answer(batch)[2]["responses"][0]["body"]["response"] == "Hello world"
        assert it.process.wait(PATIENCE) == 0


def test_a_process_that_stops_says_so() -> None:
    with ExitStack() as stack:
        it = stack.enter_context(service(Hold()))
        stream, *kept = [stack.enter_context(connected(it)) for _ in range(4)]
        post(stream, "/api/agent/chat?stream=true", CHAT)
        stream.read_until(b"Hello")
        for each in kept:
            each.ask("/healthz")
            answer(each)
        stop_and_wait_for_the_drain(it)
        batch, resumed, ready = kept
        post(batch, "/api/batch?stream=true", BATCH)
        resumed.ask("/api/agent/messages/msg_1/stream")
        ready.ask("/readyz")
        assert [answer(each)[0] for each in kept] == [503, 503, 503]


def test_after_the_grace_each_stream_is_told_and_what_was_said_is_stored() -> None:
    with service(Hold(), grace=0.5) as it, connected(it) as stream, connected(it) as batch, connected(it) as chat:
        post(stream, "/api/agent/chat?stream=true", CHAT)
        seen = stream.read_until(b"Hello")
        post(chat, "/api/agent/chat", CHAT)
        streamed = {"requests": [{**BATCH["requests"][0], "body": {**CHAT, "stream": True}}]}
        post(batch, "/api/batch?stream=true", streamed)
        batched = batch.read_until(b"Hello")
        until(lambda: len(rows(it, "SELECT 1 FROM assistant_message WHERE status = 'running'")) == 3)
        terminate(it)
        told = check(events(seen + stream.read_rest()[0]))
        assert told[-1]["type"] == "error"
        assert (told[-1]["code"], told[-1]["retryable"]) == (503, True)
        last = events(batched + batch.read_rest()[0])[-1][1]
        assert (last["type"], last["code"], last["retryable"]) == ("error", 503, True)
        assert answer(chat)[0] == 503
        assert it.process.wait(PATIENCE) == 0
        assert set(rows(it, "SELECT status, text FROM assistant_message")) == {("interrupted", "Hello")}
        assert rows(it, "SELECT status FROM batching_batch") == [("interrupted",)]


def test_a_second_signal_ends_it_at_once() -> None:
    with service(Hold()) as it, connected(it) as stream:
        post(stream, "/api/agent/chat?stream=true", CHAT)
        stream.read_until(b"Hello")
        stop_and_wait_for_the_drain(it)
        again = threading.Timer(1.2, terminate, [it])  # longer than what counts as the same signal
        again.start()
        assert it.process.wait(PATIENCE) == 128 + signal.SIGTERM
        again.join()
