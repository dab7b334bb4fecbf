"""The event stream of an answer, as a response."""

import weakref
from collections.abc import AsyncGenerator
from functools import partial

from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIRequest
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from assistant.answers.answer import Answer
from assistant.conf import get_settings
from wire.api.openapi import event_stream
from wire.api.sse import EventStreamResponse, NoStream, NumberedEvent, can_stream, frames
from wire.asgi import draining
from wire.asgi.detached import DetachedStream, detached_stream

EVENT_STREAM = event_stream("Events, each an `id:` line and a `data:` line with a JSON object.")


def refuse_without_streams(request: Request) -> None:
    """Raise `Stopping`, `PermissionDenied` or `NoStream` where this request can't get a stream."""
    draining.refuse()
    if not get_settings().STREAM_ENABLED:
        raise PermissionDenied("Streaming is switched off here (STREAM_ENABLED=false). Chat without it works.")
    if not can_stream.get():
        raise NoStream
    if not isinstance(request._request, ASGIRequest):
        raise PermissionDenied("This server can't stream: it runs WSGI. Chat without streaming works.")


def stream_answer(request: Request, answer: Answer, cursor: int) -> "AnswerStream":
    """Begin the answer and return its events after `cursor`. Raises as `Answer.prepare`."""
    async_to_sync(answer.prepare)()
    return AnswerStream(answer, cursor, detached_stream(getattr(request._request, "scope", {})))


class AnswerStream(EventStreamResponse):
    """The events of a prepared answer after `cursor`."""

    def __init__(self, answer: Answer, cursor: int, stream: DetachedStream | None) -> None:
        parts = frames(partial(answer.events_after, cursor), stream)
        super().__init__(parts, stream)
        self.answer, self.cursor = answer, cursor
        # Where the client left before the response began, its parts are never asked for nor closed.
        weakref.finalize(parts, answer.expect_no_reader)

    @property
    def message_id(self) -> str:
        return self.answer.message.id

    def events(self) -> AsyncGenerator[NumberedEvent | None]:
        """Yield the numbered events, for a transport that has frames of its own."""
        return self.answer.events_after(self.cursor)
