"""Every way a model can fail, through the front door: a real server process, a scripted model, streams and JSON.

How each fault is told apart stands in tests/assistant/providers; here is what of it a client gets to see.
"""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import requests
from django.test import AsyncClient

from assistant.models import Message
from assistant.providers.registry import load
from tests import streams
from tests.processes import PATIENCE, Served, serving
from tests.upstream import (
    DONE,
    HangUp,
    Hold,
    Script,
    Upstream,
    broken,
    calling,
    chunk,
    deltas,
    ending,
    event,
    holding,
    refusing,
    reply,
    until,
)

KEY = "sk-the-key-of-the-models-server"
# What the model's server says to the operator, and nobody else may hear.
SECRET = {"error": {"message": f"secret: {KEY} at 10.0.0.1 isn't for gpt"}}
PAGE = b"<html><title>secret</title></html>"
HTML = {"Content-Type": "text/html"}
# The server's limits of silence: long enough for a busy machine to say what it has to say.
SILENCE = {"MODEL_FIRST_TOKEN_TIMEOUT": "1", "MODEL_IDLE_TIMEOUT": "1"}


@dataclass(frozen=True)
class Fault:
    """What the model's server does, and what the caller is told."""

    script: Script
    code: int
    retryable: bool
    retry_after: int | None = None
    said: str = ""


def said(*steps: Any) -> Script:
    """Say "Hel", then go on with these steps."""
    return Script([*deltas("Hel"), *steps])


def content(value: bytes) -> bytes:
    return b'data: {"choices": [{"index": 0, "delta": {"content": ' + value + b"}}]}\n\n"


FAULTS = {
    "silent before the headers": Fault(Script([Hold()], raw=True), 504, True),
    "silent before the first token": Fault(Script([Hold()]), 504, True),
    "silent but for comments": Fault(Script([b": wait\n\n", 0.1] * 300), 504, True),
    "empty deltas without end": Fault(Script([chunk({"content": ""}) * 50, 0.005] * 4_000), 504, True),
    "silent in the middle": Fault(holding("Hel"), 504, True, said="Hel"),
    "reset at once": Fault(broken(), 502, True),
    "reset between events": Fault(broken("Hel"), 502, True, said="Hel"),
    "reset in the middle of a line": Fault(said(b'data: {"choi', HangUp()), 502, True, said="Hel"),
    "over in the middle of a line": Fault(said(b'data: {"choi'), 502, True, said="Hel"),
    "over without saying why": Fault(said(), 502, True, said="Hel"),
    "over at once": Fault(Script([]), 502, True),
    "hung up without an answer": Fault(Script([], raw=True), 502, True),
    "not HTTP": Fault(Script([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], raw=True), 502, False),
    "garbage": Fault(said(b"data: secret nonsense\n\n"), 502, False, said="Hel"),
    "noise": Fault(said(bytes(range(256)) * 20), 502, True, said="Hel"),
    "invalid UTF-8": Fault(said(content(b'"\xff"')), 502, False, said="Hel"),
    "an endless line": Fault(said(b"data: ", *repeat(b"x" * 65_536, 10_000)), 502, False, said="Hel"),
    "a number for text": Fault(said(content(b"5")), 502, False, said="Hel"),
    "a list for text": Fault(said(content(b'["secret"]')), 502, False, said="Hel"),
    "a page": Fault(Script([PAGE], headers=HTML), 502, False),
    "a page of a proxy": Fault(Script([PAGE], status=502, headers=HTML), 502, True),
    "an error as an event": Fault(said(event(SECRET)), 502, True, said="Hel"),
    "an error after an answer's status": Fault(refusing(200, SECRET), 502, False),
    "a limit as an event": Fault(said(event({"error": {"code": 429, "message": "secret"}})), 503, True, 5, "Hel"),
    "a tool's parameters cut": Fault(calling(("add", '{"a": ')), 502, False),
    "400": Fault(refusing(400, SECRET), 502, False),
    "401": Fault(refusing(401, SECRET), 502, False),
    "403": Fault(refusing(403, SECRET), 502, False),
    "404": Fault(refusing(404, SECRET), 502, False),
    "429 that says when": Fault(refusing(429, SECRET, Retry_After="17"), 503, True, 17),
    "429": Fault(refusing(429, SECRET), 503, True, 5),
    "500": Fault(refusing(500, SECRET), 502, True),
    "503": Fault(refusing(503, SECRET), 502, True),
    "503 that says when": Fault(refusing(503, SECRET, Retry_After="3"), 503, True, 3),
    "a redirect": Fault(refusing(307, SECRET, Location="http://10.0.0.1/secret"), 502, False),
    "too long": Fault(refusing(400, {"error": {"code": "context_length_exceeded"}}), 400, False),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream().in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def service(upstream: Upstream) -> Iterator[Served]:
    with serving(ASSISTANT_MODEL="openai:gpt", OPENAI_BASE_URL=upstream.url, OPENAI_API_KEY=KEY, **SILENCE) as it:
        yield it


def ask(service: Served, query: str = "", message: str = "Hi") -> requests.Response:
    return requests.post(f"{service.url}/api/agent/chat{query}", json={"message": message}, timeout=PATIENCE)


def check_tells_nothing(response: requests.Response, upstream: Upstream) -> None:
    """Check that neither the model's server, its key, its words nor our code can be read out of a response."""
    told = f"{response.headers} {response.text}"
    port = upstream.url.split(":")[2].split("/")[0]
    assert not re.search(rf"\b{port}\b|{KEY}|secret|10\.0\.0\.1|127\.0\.0\.1|Traceback|Error\b|aiohttp|\.py", told)


@pytest.mark.server
@pytest.mark.parametrize("name", FAULTS)
def test_a_stream_ends_with_one_error(service: Served, upstream: Upstream, name: str) -> None:
    fault = FAULTS[name]
    upstream.requests.clear()
    upstream.script = fault.script
    response = ask(service, "?stream=true")
    first, *tokens, last = streams.check(streams.parse(response.content))
    assert "".join(token["content"] for token in tokens) == fault.said
    assert last == {
        "type": "error",
        "message": last["message"],
        "code": fault.code,
        "retryable": fault.retryable,
        **({"retry_after": fault.retry_after} if fault.retry_after else {}),
    }
    row = requests.get(f"{service.url}/api/agent/messages/{first['message_id']}", timeout=PATIENCE)
    assert (row.json()["status"], row.json()["response"]) == ("failed", fault.said)
    assert row.json()["error"]["code"] == fault.code
    for seen in (response, row):
        check_tells_nothing(seen, upstream)
    # A connection that died in the pool is given a second try, and nothing else is.
    assert len(upstream.requests) == 1 or name == "hung up without an answer"


@pytest.mark.server
@pytest.mark.parametrize("name", FAULTS)
def test_an_answer_without_a_stream_is_one_error(service: Served, upstream: Upstream, name: str) -> None:
    fault = FAULTS[name]
    upstream.script = fault.script
    response = ask(service)
    assert response.status_code == fault.code
    assert response.json() == {"error": response.json()["error"], "code": fault.code}
    assert response.headers.get("Retry-After") == (str(fault.retry_after) if fault.retry_after else None)
    check_tells_nothing(response, upstream)


FINE = {
    "over without a reason but with the last line": said(DONE),
    "over with a reason but without the last line": said(chunk(finish="stop")),
    "finished twice": said(chunk(finish="stop"), chunk(finish="stop"), DONE, DONE),
    "talking on after the last line": said(*ending(), content(b'"lo"'), b"data: nonsense\n\n"),
    "reset after the end": said(chunk(finish="stop"), HangUp()),
    "an error after the end": said(*ending(), event(SECRET)),
    "many empty deltas": Script([*repeat(chunk({"content": ""}) * 100, 100), *deltas("Hel"), *ending()]),
}


@pytest.mark.server
@pytest.mark.parametrize("name", FINE)
def test_what_is_odd_but_complete_is_an_answer(service: Served, upstream: Upstream, name: str) -> None:
    upstream.script = FINE[name]
    events = streams.check(streams.parse(ask(service, "?stream=true").content))
    assert (streams.text(events), events[-1]["type"], events[-1]["finish_reason"]) == ("Hel", "end", "stop")
    assert ask(service).json()["response"] == "Hel"


@pytest.mark.server
def test_an_endless_line_costs_little_memory(service: Served, upstream: Upstream) -> None:
    upstream.script = reply("Hello")
    ask(service)
    before = peak_bytes(service)
    upstream.script = FAULTS["an endless line"].script
    for _ in range(5):
        assert ask(service).status_code == 502
    assert peak_bytes(service) - before < 30_000_000


def peak_bytes(service: Served) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


@pytest.mark.parametrize("query", ["", "?stream=true"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:{closed}/v1", "https://127.0.0.1:{open}/v1", "http://[::1"])
async def test_a_model_that_cannot_be_reached_is_one_error(
    async_client: AsyncClient, db: None, settings: Any, address: str, query: str
) -> None:
    async with Upstream() as gone:
        closed = gone.url.split(":")[2].split("/")[0]
    async with Upstream() as plain:
        opened = plain.url.split(":")[2].split("/")[0]
        settings.ASSISTANT_MODEL, settings.MODEL_CONNECT_TIMEOUT = "openai:test", 0.5
        settings.OPENAI_BASE_URL = address.format(closed=closed, open=opened)
        load.cache_clear()
        response = await async_client.post(f"/api/agent/chat{query}", {"message": "Hi"}, "application/json")
        if query:
            *_, last = await streams.read(response)
            assert (last["type"], last["code"], last["retryable"]) == ("error", 502, True)
            told = str(last)
        else:
            assert (response.status_code, response.json()["code"]) == (502, 502)
            told = response.content.decode()
        await load("openai", "test").aclose()
    load.cache_clear()
    assert not re.search(rf"{closed}|{opened}|127\.0\.0\.1|ssl|Error\b", told)
    assert (await Message.objects.aget()).status == "failed"


@pytest.mark.server
def test_the_models_call_is_closed_with_the_answer(service: Served, upstream: Upstream) -> None:
    upstream.requests.clear()
    upstream.script = FAULTS["silent in the middle"].script
    ask(service)
    asyncio.run(until(lambda: upstream.requests[0].closed_at, seconds=1))
