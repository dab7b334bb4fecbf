"""Reading event streams in tests: every one of them goes through the verifier."""

from collections.abc import AsyncIterable
from typing import Any

from assistant.api.verifier import Verifier, read_frames
from assistant.conf import get_settings


def parse(stream: bytes) -> list[tuple[int, dict[str, Any]]]:
    """Return (id, event) pairs; every frame has to be whole, ASCII, and in its form."""
    return list(read_frames(stream))


def check(pairs: list[tuple[int, dict[str, Any]]], after: int = 0) -> list[dict[str, Any]]:
    """Return the events of a whole stream (or the rest after an id), which have to be in legal order."""
    verifier = Verifier(after=after, chunk_size=get_settings().STREAM_CHUNK_SIZE)
    for number, event in pairs:
        verifier.see(number, event)
    verifier.close()
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
