"""Relays the event stream of an item to the client of a streamed batch."""

import codecs
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

from asgiref.sync import async_to_sync
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

from batching.items import response as responses
from batching.items.item import ItemResponse
from wire.api.json import NotJSON

Relay = Callable[[Any], Coroutine[Any, Any, None]]

# Characters of one event at most; a longer stretch without an event isn't an event stream.
MAX_CHARS = 1024 * 1024
END_OF_LINE = re.compile(r"\r\n|\r(?!$)|\n")


class NotEvents(Exception):
    """The stream doesn't hold events of JSON."""


def read(response: HttpResponseBase, relay: Relay, max_bytes: int) -> ItemResponse:
    """Relay the events of an event stream and return the last one as the response; read any other response as it is.

    Runs in the item's thread, which it holds until the stream has ended.
    """
    if not isinstance(response, StreamingHttpResponse) or responses.media_type(response) != "text/event-stream":
        return responses.read(response, max_bytes)
    if response.status_code >= 400:
        return responses.NO_STREAM
    try:
        return final_response(async_to_sync(afollow)(response, relay) if response.is_async else follow(response, relay))
    except NotEvents:
        return responses.NO_STREAM


async def afollow(response: StreamingHttpResponse, relay: Relay) -> Any:
    """Relay a stream that is made in the event loop; return its last event."""
    last = None
    reader = EventReader()
    async with aclosing(aiter(response)) as parts:  # type: ignore[type-var]  # it is an async generator
        async for part in parts:
            for last in reader.feed(part):
                await relay(last)
    return last


def follow(response: StreamingHttpResponse, relay: Relay) -> Any:
    """Relay a stream that is made in the item's thread; return its last event."""
    last = None
    reader = EventReader()
    for part in response:
        for last in reader.feed(part):
            async_to_sync(relay)(last)
    return last


def final_response(last: Any) -> ItemResponse:
    """Return the response in a stream's last event: `{"type": "error", "message", "code"}` is an error."""
    match last:
        case {"type": "error", "code": int(status), "message": str(message)} if 400 <= status < 600:
            return ItemResponse(status, error=message)
        case _:
            return ItemResponse(200, last)


class EventReader:
    """Parses a stream: https://html.spec.whatwg.org/multipage/server-sent-events.html, its `data` lines only."""

    def __init__(self) -> None:
        self.decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self.rest = ""
        self.data: list[str] = []

    def feed(self, part: bytes) -> Iterator[Any]:
        """Yield the events that this part completes. Raises `NotEvents`."""
        *lines, self.rest = END_OF_LINE.split(self.rest + self.decode(part))
        if len(self.rest) + sum(map(len, self.data)) > MAX_CHARS:
            raise NotEvents
        for line in lines:
            if line.startswith("data:"):
                self.data.append(line[5:].removeprefix(" "))
            elif not line and self.data:
                yield self.dispatch()

    def dispatch(self) -> Any:
        text = "\n".join(self.data)
        self.data.clear()
        try:
            return responses.loads(text.encode())
        except (NotJSON, ValueError, RecursionError):
            raise NotEvents from None
