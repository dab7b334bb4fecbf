"""Reading event streams in tests, with the legal order of events checked on every one."""

import json
from collections.abc import AsyncIterable
from typing import Any

LAST = {"error", "end"}


def parse(stream: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return (id, event) pairs; every frame has to be whole, ASCII, and in its form."""
    frames = stream.decode("ascii").split("\n\n")
    assert frames.pop() == "", "the stream was cut inside a frame"
    pairs = []
    for frame in frames:
        if frame.startswith(":"):
            continue
        number, data = frame.split("\n")
        assert number.startswith("id: ")
        assert data.startswith("data: ")
        pairs.append((int(number[4:]), json.loads(data[6:])))
    return pairs


def check(pairs: list[tuple[int, dict[str, Any]]], after: int = 0) -> list[dict[str, Any]]:
    """Return the events of a whole stream (or the rest after an id), which have to be in legal order."""
    assert [number for number, _ in pairs] == list(range(after + 1, after + 1 + len(pairs)))
    kinds = [event["type"] for _, event in pairs]
    if after == 0:
        assert kinds[0] == "start"
    assert kinds[-1] in LAST
    assert not LAST & set(kinds[:-1])
    assert "start" not in kinds[1:]
    assert set(kinds) <= {"start", "token", "tool_call", "tool_result", *LAST}
    return [event for _, event in pairs]


async def read(response: Any, after: int = 0) -> list[dict[str, Any]]:
    """Read a streaming response of Django's test client to its end."""
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/event-stream"
    return check(parse(await joined(response)), after)


async def joined(parts: AsyncIterable[bytes]) -> bytes:
    return b"".join([part async for part in parts])


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["content"] for event in events if event["type"] == "token")
