"""A stream that Django hands over goes on without it; one that isn't Django's own to hand over stays with it."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from django.urls import path

from wire.api.sse import EventStreamResponse, NumberedEvent, Push, frames
from wire.asgi import detached
from wire.asgi.detached import PUSH, DetachedStream, DetachedStreams, detached_stream
from wire.observe.request_id import request_id

SCOPE = {"type": "http", "method": "GET", "path": "/stream", "query_string": b"", "headers": []}
PATIENCE = 10


class Parts:
    """What a test streams, and what becomes of it."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.requests: list[weakref.ref[HttpRequest]] = []
        self.began = self.closed = False
        self.request_id = ""
        self.push: Push | None = None

    async def stream(self) -> AsyncGenerator[bytes]:
        self.began = True
        try:
            yield b"one"
            await self.go_on.wait()
            self.request_id = request_id.get()
            yield b"two"
        finally:
            self.closed = True

    async def events(self, push: Push | None) -> AsyncGenerator[NumberedEvent | None]:
        self.push = push
        yield 0, "one"
        await self.go_on.wait()

    async def fail(self) -> AsyncGenerator[bytes]:
        yield b"one"
        await self.go_on.wait()
        raise RuntimeError("broken")


parts: Parts
scope_of: Callable[[Any], Any]


def stream(request: ASGIRequest) -> EventStreamResponse:
    parts.requests.append(weakref.ref(request))
    return EventStreamResponse(parts.stream(), detached_stream(scope_of(request.scope)))


def fail(request: ASGIRequest) -> EventStreamResponse:
    return EventStreamResponse(parts.fail(), detached_stream(request.scope))


def pushing(request: ASGIRequest) -> EventStreamResponse:
    stream = detached_stream(request.scope)
    return EventStreamResponse(frames(parts.events, stream), stream)


urlpatterns = [
    path("stream", stream),
    path("pushing", pushing),
    path("fail", fail),
    path("plain", lambda request: HttpResponse("plain")),
]


def shouting(get_response: Any) -> Any:
    """A middleware that puts a stream of its own in the place of the view's."""

    async def shouted(content: Any) -> AsyncGenerator[bytes]:
        async for part in content:
            yield part.upper()

    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        response.streaming_content = shouted(response.streaming_content)
        return response

    return middleware


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    global parts, scope_of
    parts, scope_of = Parts(), lambda scope: scope
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["wire.observe.request_id.request_id_middleware"]


def called(where: str = "/stream") -> ApplicationCommunicator:
    return ApplicationCommunicator(DetachedStreams(ASGIHandler()), {**SCOPE, "path": where})


async def begun(client: ApplicationCommunicator) -> dict[str, Any]:
    """Send the request; return the first part of the response."""
    await client.send_input({"type": "http.request", "body": b""})
    assert (await client.receive_output(PATIENCE))["status"] == 200
    first = await part(client)
    return first if first["body"] else await part(client)  # nothing was sent, so that the headers are


async def part(client: ApplicationCommunicator) -> dict[str, Any]:
    message: dict[str, Any] = await client.receive_output(PATIENCE)
    return message


async def test_it_goes_on_without_the_request() -> None:
    client = called()
    assert (await begun(client))["body"] == b"one"
    async with asyncio.timeout(PATIENCE):
        while parts.requests[0]():  # Django is through a moment later
            await asyncio.sleep(0.01)
            gc.collect()
    parts.go_on.set()
    assert await part(client) == {"type": "http.response.body", "body": b"two", "more_body": True}
    assert not (await part(client)).get("more_body")
    await client.wait(PATIENCE)
    assert parts.closed
    assert len(parts.request_id) == 32  # what it logs still has the request's id


async def test_a_client_that_leaves_ends_it() -> None:
    client = called()
    await begun(client)
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)
    assert parts.closed


async def test_a_client_that_left_before_never_begins_it() -> None:
    def leave(scope: Any) -> Any:
        client.input_queue.put_nowait({"type": "http.disconnect"})
        return scope

    global scope_of
    scope_of = leave
    client = called()
    await client.send_input({"type": "http.request", "body": b""})
    await client.wait(PATIENCE)
    assert not parts.began or parts.closed


async def test_its_first_part_leaves_while_django_is_still_ending_the_request() -> None:
    may_end = threading.Event()

    def end(**kwargs: Any) -> None:
        assert may_end.wait(PATIENCE)

    request_finished.connect(end)
    try:
        client = called()
        assert (await begun(client))["body"] == b"one"
        parts.go_on.set()
        assert (await part(client))["body"] == b"two"
        assert not (await part(client)).get("more_body")
        assert not client.future.done()
    finally:
        may_end.set()
        request_finished.disconnect(end)
    await client.wait(PATIENCE)


async def test_what_fails_after_it_was_handed_over_is_told_at_once_and_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Held: ...

    told: list[tuple[str, str]] = []
    # pytest's own log would keep what it is told.
    monkeypatch.setattr(
        detached.logger, "error", lambda line, name, exc_info: told.append((request_id.get(), line % name))
    )

    held: list[weakref.ref[Held]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        here = Held()
        held.append(weakref.ref(here))
        request_id.set("its-id")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        taken(scope)
        raise RuntimeError("broken")

    client = ApplicationCommunicator(DetachedStreams(application), SCOPE)
    assert (await begun(client))["body"] == b"one"
    assert told == [("its-id", "application=failed error=RuntimeError")]
    gc.collect()
    assert held[0]() is None
    parts.go_on.set()
    assert (await part(client))["body"] == b"two"
    await client.wait(PATIENCE)


def taken(scope: Any, content: AsyncGenerator[bytes] | None = None) -> None:
    """Do what a response does that hands its stream over."""
    stream = detached.detached_stream(scope)
    assert stream
    stream.detach(content or parts.stream(), unchanged=True)


async def test_a_stream_that_fails_at_once_leaves_django_to_its_end() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        raise RuntimeError("broken")
        yield

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        taken(scope, broken())
        await asyncio.sleep(0.05)
        ended.set()

    ended = asyncio.Event()
    client = ApplicationCommunicator(DetachedStreams(application), SCOPE)
    await client.send_input({"type": "http.request", "body": b""})
    with pytest.raises(RuntimeError, match="broken"):
        await client.wait(PATIENCE)
    assert ended.is_set()


@pytest.mark.parametrize("leaves", [False, True])
async def test_an_application_that_does_not_end_is_cancelled_after_its_stream(leaves: bool) -> None:
    cancelled, listening = asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            taken(scope)
            await receive()
            if leaves:
                assert (await receive())["type"] == "http.disconnect"
            listening.set()
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    client = ApplicationCommunicator(DetachedStreams(application), SCOPE)
    assert (await begun(client))["body"] == b"one"
    if leaves:
        await client.send_input({"type": "http.disconnect"})
    else:
        parts.go_on.set()
        while (await part(client)).get("more_body"):
            pass
    await asyncio.wait_for(listening.wait(), PATIENCE)
    client.future.cancel()
    await asyncio.gather(client.future, return_exceptions=True)
    assert client.future.cancelled()
    assert cancelled.is_set()
    assert parts.closed


async def test_a_client_that_leaves_while_django_is_still_ending_the_request_ends_it() -> None:
    leaving = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        taken(scope)
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        leaving.set()
        await asyncio.sleep(0.05)

    client = ApplicationCommunicator(DetachedStreams(application), SCOPE)
    assert (await begun(client))["body"] == b"one"
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)
    assert leaving.is_set()
    assert parts.closed


async def test_what_a_middleware_made_of_it_is_sent(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.shouting"]
    client = called()
    assert (await begun(client))["body"] == b"ONE"
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)


@pytest.mark.parametrize(
    ("middleware", "takes", "sent"),
    [([], True, [b"id: 1\ndata: 1\n\n"]), ([], False, []), ([f"{__name__}.shouting"], True, [])],
)
async def test_events_are_pushed_past_it_where_nobody_has_a_hand_in_it(
    settings: Any, middleware: list[str], takes: bool, sent: list[bytes]
) -> None:
    settings.MIDDLEWARE = middleware
    pushed: list[bytes] = []

    def push(part: bytes) -> bool:
        pushed.append(part)
        return takes

    client = ApplicationCommunicator(DetachedStreams(ASGIHandler()), {**SCOPE, "path": "/pushing", PUSH: push})
    assert (await begun(client))["body"].lower() == b"id: 0\ndata: one\n\n"
    assert (parts.push is not None and parts.push(1, "1")) == bool(sent)
    assert (pushed if takes else []) == sent
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)


async def test_nothing_is_pushed_before_the_stream_or_without_a_server_that_takes_it() -> None:
    async def nothing(*message: Any) -> Any: ...

    assert DetachedStream(nothing, nothing, lambda part: True).push is None
    client = called("/pushing")
    await begun(client)
    assert parts.push is None
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)


async def test_the_stream_of_another_request_made_from_this_one_stays_where_it_is() -> None:
    global scope_of
    scope_of = dict
    client = called()
    assert (await begun(client))["body"] == b"one"
    gc.collect()
    assert parts.requests[0]() is not None
    await client.send_input({"type": "http.disconnect"})
    await client.wait(PATIENCE)
    assert parts.closed


async def test_a_stream_that_fails_has_no_end() -> None:
    client = called("/fail")
    assert (await begun(client))["body"] == b"one"
    parts.go_on.set()
    with pytest.raises(RuntimeError, match="broken"):
        await client.wait(PATIENCE)
    assert client.output_queue.empty()


async def test_a_stream_is_cancelled_with_the_application() -> None:
    client = called()
    await begun(client)
    client.future.cancel()
    await asyncio.gather(client.future, return_exceptions=True)
    assert client.future.cancelled()
    assert parts.closed


async def test_other_responses_pass_unchanged() -> None:
    client = called("/plain")
    assert (await begun(client))["body"] == b"plain"
    await client.wait(PATIENCE)
