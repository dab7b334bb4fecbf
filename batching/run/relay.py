"""An item that is answered with an event stream, in a batch that is streamed itself: its events go along with it."""

import codecs
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import Any

from asgiref.sync import async_to_sync
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase

from batching.items import response as answers
from batching.items.item import ItemResponse
from wire.api.json import NotJSON

Relay = Callable[[Any], Coroutine[Any, Any, None]]

# What one event may hold; a stream that sends none this long is no stream of events.
MAX_CHARS = 1024 * 1024
END_OF_LINE = re.compile(r"\r\n|\r(?!$)|\n")


class NotEvents(Exception):
    """The stream doesn't hold events of JSON."""


def read(response: HttpResponseBase, relay: Relay) -> ItemResponse:
    """Relay the events of an event stream and return its last one as the answer; read any other response as it is.

    Runs in the thread of the item, which keeps its place until the stream has ended.
    """
    if not isinstance(response, StreamingHttpResponse) or answers.media_type(response) != "text/event-stream":
        return answers.read(response)
    if response.status_code >= 400:
        return answers.NO_STREAM
    try:
        return concluded(async_to_sync(followed)(response, relay) if response.is_async else follow(response, relay))
    except NotEvents:
        return answers.NO_STREAM


async def followed(response: StreamingHttpResponse, relay: Relay) -> Any:
    """Return the last event of a stream that is made in the event loop."""
    last = None
    reader = EventReader()
    async with aclosing(aiter(response)) as parts:  # type: ignore[type-var]  # it is an async generator
        async for part in parts:
            for last in reader.feed(part):
                await relay(last)
    return last


def follow(response: StreamingHttpResponse, relay: Relay) -> Any:
    """Return the last event of a stream that is made in the item's thread."""
    last = None
    reader = EventReader()
    for part in response:
        for last in reader.feed(part):
            async_to_sync(relay)(last)
    return last


def concluded(last: Any) -> ItemResponse:
    """Return the answer that a stream's last event stands for: `{"type": "error", "message", "code"}` is an error."""
    match last:
        case {"type": "error", "code": int(status), "message": str(message)} if 400 <= status < 600:
            return ItemResponse(status, error=message)
        case _:
            return ItemResponse(200, last)


class EventReader:
    """Takes a stream apart: https://html.spec.whatwg.org/multipage/server-sent-events.html, its `data` lines only."""

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
                yield self.dispatched()

    def dispatched(self) -> Any:
        text = "\n".join(self.data)
        self.data.clear()
        try:
            return answers.loads(text.encode())
        except (NotJSON, ValueError, RecursionError):
            raise NotEvents from None
