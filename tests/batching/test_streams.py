"""A streamed batch: each answer as soon as it is there, one end, nothing left behind."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from django.test import AsyncClient

from batching.models import Batch
from batching.run import event_queue
from batching.run.relay import EventReader, NotEvents
from tests.batching.conftest import Send, item, wsgi
from tests.batching.test_executor import ended, wait_for_end
from tests.host import views

EVENTS, LINES = "text/event-stream", "application/x-ndjson"


def read(response: Any) -> list[dict[str, Any]]:
    """Return the events of a streamed batch, having checked their order."""
    assert response.status_code == 200
    events = parsed(response["Content-Type"], b"".join(response.streaming_content))
    kinds = [event["type"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] in ("end", "error")
    assert {"start", "end", "error"}.isdisjoint(kinds[1:-1])
    return events


def parsed(media_type: str, content: bytes) -> list[dict[str, Any]]:
    text = content.decode("ascii")
    if media_type == LINES:
        return [json.loads(line) for line in text.splitlines()]
    frames = text.split("\n\n")
    assert frames.pop() == ""
    numbers, payloads = zip(*(frame.split("\n") for frame in frames), strict=True)
    assert [int(number.removeprefix("id: ")) for number in numbers] == list(range(1, len(frames) + 1))
    return [json.loads(payload.removeprefix("data: ")) for payload in payloads]


@pytest.fixture(params=["wsgi", "asgi"])
def stream(request: pytest.FixtureRequest, committed: None) -> Any:
    """Send a batch to be streamed and return its events."""

    def through_wsgi(
        items: Iterable[Any], path: str = "/api/batch?stream=true", **options: Any
    ) -> list[dict[str, Any]]:
        return read(wsgi("POST", path, {"requests": list(items)}, **options))

    def through_asgi(
        items: Iterable[Any], path: str = "/api/batch?stream=true", **options: Any
    ) -> list[dict[str, Any]]:
        async def sent() -> Any:
            response = await AsyncClient().post(
                path, {"requests": list(items)}, content_type="application/json", **options
            )
            response.streaming_content = iter([part async for part in response.streaming_content])
            return response

        return read(asyncio.run(sent()))

    return through_wsgi if request.param == "wsgi" else through_asgi


def test_each_answer_leaves_when_it_is_there(stream: Any) -> None:
    events = stream([item("/api/slow?seconds=0.2", id="slow"), item("/api/echo", id="quick"), 5])
    start, *responses, end = events
    assert start == {"type": "start", "batch_id": start["batch_id"], "total": 3}
    assert [one["id"] for one in responses] == [None, "quick", "slow"]
    assert responses[1]["body"]["method"] == "GET"
    assert end["batch_id"] == start["batch_id"]
    assert end["counts"] == {"total": 3, "succeeded": 2, "failed": 1}
    assert end["total_processing_time"] > 0.2
    assert Batch.objects.get().status == "completed"


@pytest.mark.parametrize(
    ("path", "accept", "media_type"),
    [
        ("/api/batch?stream=true", "", EVENTS),
        ("/api/batch?stream=1", "application/json", EVENTS),
        ("/api/batch", EVENTS, EVENTS),
        ("/api/batch", f"{EVENTS};q=1, */*", EVENTS),
        ("/api/batch", LINES, LINES),
        ("/api/batch?stream=true", LINES, LINES),
        ("/api/batch?stream=false", EVENTS, "application/json"),
        ("/api/batch", f"application/json, {EVENTS}", "application/json"),
        ("/api/batch", "*/*", "application/json"),
    ],
)
def test_the_caller_chooses_the_form(send: Send, path: str, accept: str, media_type: str) -> None:
    response = send("POST", path, {"requests": [item("/api/echo")]}, headers={"accept": accept})
    assert response["Content-Type"] == media_type
    response.close()


def test_a_stream_is_not_held_back(send: Send) -> None:
    response = send("POST", "/api/batch?stream=true", {"requests": [item("/api/echo")]})
    assert response["Cache-Control"] == "no-cache, no-transform"
    assert response["X-Accel-Buffering"] == "no"
    response.close()


@pytest.mark.parametrize(("path", "status"), [("/api/batch?stream=true", 400), ("/api/batch?stream=maybe", 400)])
def test_refusals_come_before_the_stream(send: Send, path: str, status: int) -> None:
    response = send("POST", path, {"requests": []}, headers={"accept": EVENTS})
    assert (response.status_code, response["Content-Type"]) == (status, "application/json")


def test_an_items_own_stream_goes_along(stream: Any) -> None:
    items = [item("/api/events?count=3&pause=0.01", id=name) for name in ("a", "b")]
    items += [
        item("/api/events-sync", id="sync"),
        item("/api/events?error=1", id="bad"),
        item("/api/lines", id="lines"),
    ]
    events = stream(items)
    for name in ("a", "b"):
        mine = [event for event in events if event.get("id") == name]
        assert [event["event"].get("content") for event in mine if event["type"] == "item"] == ["0", "1", "2", None]
        assert [event["type"] for event in mine] == ["item"] * 4 + ["response"]
        assert [event["event"] for event in mine[:-1]][-1] == {"type": "end"}
        assert (mine[-1]["status"], mine[-1]["body"]) == (200, {"type": "end"})
    sync = [event for event in events if event.get("id") == "sync"]
    assert [event.get("event") for event in sync[:2]] == [{"type": "token", "content": "a"}, {"type": "end"}]
    bad = [event for event in events if event.get("id") == "bad"]
    assert (bad[-1]["status"], bad[-1]["error"]) == (502, "It broke.")
    assert [event["status"] for event in events if event.get("id") == "lines"] == [406]


def test_at_the_deadline_a_stream_ends(stream: Any, settings: Any) -> None:
    settings.BATCH_TIMEOUT = 1
    events = stream([item("/api/events?count=1000&pause=0.05", id="a"), item("/api/slow?seconds=2", id="b")])
    given = {event["id"]: event for event in events if event["type"] == "response"}
    assert {one["error"] for one in given.values()} == {"Timed out after 1 s"}
    assert events[-1]["type"] == "end"
    assert events[-1]["total_processing_time"] < 1 + 0.5
    assert wait_for_end().status == "expired"


def test_dependencies_are_streamed_in_their_order(stream: Any) -> None:
    chain = [item("/api/echo/0", id="0")]
    chain += [item(f"/api/echo/{{{{{n - 1}.body.name}}}}{n}", id=str(n)) for n in range(1, 10)]
    events = stream(reversed(chain))
    assert [event["id"] for event in events[1:-1]] == [str(n) for n in range(10)]
    assert events[-2]["body"]["name"] == "0123456789"


async def begun(items: list[Any]) -> Any:
    return await AsyncClient().post("/api/batch?stream=true", {"requests": items}, content_type="application/json")


async def test_a_reader_that_leaves_ends_the_batch(committed: None) -> None:
    items = [item("/api/slow-async?seconds=5", id="a"), item("/api/events?count=1000&pause=0.05", id="b")]
    response = await begun(items)
    parts = aiter(response)
    for _ in range(3):
        await anext(parts)
    await parts.aclose()
    response.close()
    batch = await ended()
    assert (batch.status, batch.failed) == ("cancelled", 2)
    await asyncio.sleep(0.2)
    assert sorted(views.seen) == ["slow_async began", "slow_async cancelled", "stream began", "stream ended"]


async def test_a_stream_that_nobody_reads_never_runs(committed: None) -> None:
    response = await begun([item("/api/slow?seconds=0")])
    await asyncio.to_thread(response.close)
    batch = await ended()
    assert (batch.status, batch.failed) == ("cancelled", 1)
    assert views.seen == []


async def test_a_slow_reader_keeps_items_waiting_and_not_memory(
    committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_queue, "MAX_RELAYED", 5)
    response = await begun([item("/api/events?count=500", id="a")])
    parts = aiter(response)
    for _ in range(2):
        await anext(parts)
    await asyncio.sleep(0.3)
    assert views.seen == ["stream began"]
    rest = b"".join([part async for part in parts])
    assert rest.count(b'"type": "item"') >= 498
    assert views.seen == ["stream began", "stream ended"]


async def test_a_quiet_stream_is_kept_open(committed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.api.sse.HEARTBEAT_SECONDS", 0.05)
    response = await begun([item("/api/slow-async?seconds=0.3", id="a")])
    content = b"".join([part async for part in response])
    assert content.count(b": keep-alive\n\n") >= 3
    kept = content.replace(b": keep-alive\n\n", b"")
    assert [event["type"] for event in parsed(EVENTS, kept)] == ["start", "response", "end"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_stream_is_read_however_it_is_cut(size: int, end: str) -> None:
    lines = [
        "id: 1",
        'data: {"a": "é\u2028"}',
        "",
        ": comment",
        "",
        "data:[1,",
        "data: 2]",
        "event: x",
        "",
        "data: 3",
        "",
        "",
    ]
    content = end.join(lines).encode()
    reader = EventReader()
    found = [event for at in range(0, len(content), size) for event in reader.feed(content[at : at + size])]
    if end == "\r":
        found += list(reader.feed(b"\n"))
    assert found == [{"a": "é\u2028"}, [1, 2], 3]


@pytest.mark.parametrize("content", [b"data: nonsense\n\n", b"data: " + b"x" * 1_100_000])
def test_what_is_no_stream_of_json_is_refused(content: bytes) -> None:
    with pytest.raises(NotEvents):
        list(EventReader().feed(content))
