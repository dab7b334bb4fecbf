"""A stream goes on without Django: once its response has begun, all that Django keeps for a request can go.

Django's handler holds the request, its session, contexts and tasks until the last byte of the response has left. For a
stream that lives for minutes that is more than the stream itself, and each of its parts passes through all of it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext

from wire.asgi.lifespan import Application, ASGIMessage, Receive, Send
from wire.asgi.threads import RequestThreads
from wire.observe.request_id import request_id

__all__ = ["DetachedStreams"]

logger = logging.getLogger(__name__)

KEY = "wire.asgi.detached"
# In the scope of a server that takes a part of a response without being waited for, or says that it can't: a function
# from bytes to whether they were taken.
PUSH = "wire.push"


class DetachedStreams:
    """An ASGI application around Django's: sends the streams that responses hand over, while Django ends the request.

    Without it, or where a middleware has put something else in a stream's place, Django sends the stream.
    """

    def __init__(self, application: Application) -> None:
        self.application = application
        self._threads = RequestThreads()

    async def __call__(self, scope: ASGIMessage, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        stream = DetachedStream(receive, send, scope.get(PUSH))
        stream.scope = scope = {**scope, KEY: stream}
        if task := asyncio.current_task():
            stream.context = task.get_context()
        # In a context of its own: what Django puts into this one would stay in it.
        context, lent = copy_context(), self._threads.lend()
        context.run(SyncToAsync.thread_sensitive_context.set, lent)
        application = asyncio.create_task(self.application(scope, stream.receive, stream.send), context=context)
        application.add_done_callback(partial(self._take_back, lent))
        stream.application = application
        scope = {}  # a stream lives long and doesn't need it, nor what follows
        del application, context, lent
        await stream.carry()

    def _take_back(self, lent: ThreadSensitiveContext, application: asyncio.Task[None]) -> None:
        self._threads.take_back(lent)


def taker(scope: Mapping[str, Any]) -> "DetachedStream | None":
    """Return who takes the stream of a request, if anybody does. A request made from a copy of its scope is another."""
    stream: DetachedStream | None = scope.get(KEY)
    return stream if stream and stream.scope is scope else None


def no_push(part: bytes) -> bool:
    return False


class DetachedStream:
    """What the application says and hears, and the stream that it hands over."""

    __slots__ = (
        "_client_left",
        "_failure",
        "_is_given_up",
        "_known",
        "_parts",
        "_push",
        "_receive",
        "_send",
        "application",
        "context",
        "push",
        "scope",
    )

    def __init__(self, receive: Receive, send: Send, push: Callable[[bytes], bool] | None = None) -> None:
        self._receive, self._send, self._push = receive, send, push
        self._client_left = self._is_given_up = False
        self.push: Callable[[bytes], bool] = no_push
        """Sends a part past the stream, which waits for it; returns False where the stream has to bring it."""
        self.scope: ASGIMessage = {}
        self.context = Context()
        self.application: asyncio.Task[None] | None = None
        """None once it has ended."""
        self._failure: BaseException | None = None
        self._parts: AsyncGenerator[bytes] | None = None
        # Done when there are parts, or when there won't be any.
        self._known = asyncio.get_running_loop().create_future()

    # What the application calls.

    def take(self, parts: AsyncGenerator[bytes], *, whole: bool) -> None:
        """Have the stream handed over; parts may be pushed past it where it is `whole` as the view made it."""
        self._parts = parts
        if whole and self._push:
            self.push = self._push
        self._know()

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._client_left |= message["type"] == "http.disconnect"
        return message

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            # The server logs the end of a request in its own context, perhaps before the application is through.
            self.context.run(request_id.set, request_id.get())
        # The end that Django sends isn't that of the stream.
        if self._parts is None:
            await self._send(message)

    # What the server waits for.

    async def carry(self) -> None:
        """Return when the application and the stream that it hands over have ended; raise what ended them.

        A stream that fails leaves the application to its end, in which Django closes what the request has opened.
        """
        if self.application:
            # In the context that has the request's id by then.
            self.application.add_done_callback(self._note_end, context=self.context)
        try:
            await self._known
            try:
                if self._parts is not None and not self._client_left:
                    await self._go_on(self._parts)
            except Exception:
                await self._ended()
                raise
            await self._ended()
        except asyncio.CancelledError:
            if self.application:
                self.application.cancel()
                await self._ended()
            raise
        if self._failure:
            raise self._failure

    async def _ended(self) -> None:
        if self.application:
            await asyncio.wait([self.application])

    def _note_end(self, application: asyncio.Task[None]) -> None:
        self.application, self.scope = None, {}
        if self._parts is None:
            self._failure = asyncio.CancelledError() if application.cancelled() else application.exception()
        elif not application.cancelled() and (failure := application.exception()):
            # Not kept: what it holds is the request, and the stream may live long.
            logger.error("application=failed error=%s", type(failure).__name__, exc_info=failure)
        self._know()

    def _know(self) -> None:
        if not self._known.done():
            self._known.set_result(None)

    async def _go_on(self, parts: AsyncGenerator[bytes]) -> None:
        """Send the stream until it ends or the client leaves."""
        watching = asyncio.create_task(self._watch(asyncio.current_task()))
        try:
            async with aclosing(parts):
                # Some servers send headers with the first part only, and that may take its time.
                await self._say(b"")
                async for part in parts:
                    await self._say(part)
            await self._send({"type": "http.response.body"})
        except asyncio.CancelledError:
            if not self._is_given_up:
                raise
        finally:
            watching.cancel()

    async def _say(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _watch(self, sending: "asyncio.Task[Any] | None") -> None:
        """Cancel what sends when the client leaves; as long as the application runs, it is told."""
        if self.application:
            await asyncio.wait([self.application])
        while not self._client_left:
            await self.receive()
        if sending:
            self._is_given_up = True
            sending.cancel()
