"""Streams without Django: once the headers of a stream are sent, the request can end.

Django's handler holds the request, its session, contexts and tasks until the last byte of the response is sent. A
stream lives for minutes: these cost more memory than the stream itself, and each part passes through all of them.
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

# The stream's key in the scope of its request.
KEY = "wire.asgi.detached"
# The key of a server's function that sends a part of a response at once. It returns False where it can't.
PUSH = "wire.push"


class DetachedStreams:
    """An ASGI application around Django's: it sends streams that responses detach, while Django ends their requests.

    Without it, or where a middleware has replaced the response's content, Django sends the stream.
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
        # In a context of its own: the values that Django sets would stay in this one.
        context, thread = copy_context(), self._threads.acquire()
        context.run(SyncToAsync.thread_sensitive_context.set, thread)
        application = asyncio.create_task(self.application(scope, stream.receive, stream.send), context=context)
        application.add_done_callback(partial(self._release, thread))
        stream.application = application
        # The rest of this call lasts as long as the stream, and needs none of these.
        scope = {}
        del application, context, thread
        await stream.run()

    def _release(self, thread: ThreadSensitiveContext, application: asyncio.Task[None]) -> None:
        self._threads.release(thread)


def detached_stream(scope: Mapping[str, Any]) -> "DetachedStream | None":
    """Return what a response detaches its stream to; None without `DetachedStreams`, or for a copy of the scope.

    A request that is made from a copy of the scope, such as one inside the process, is another request.
    """
    stream: DetachedStream | None = scope.get(KEY)
    return stream if stream and stream.scope is scope else None


class DetachedStream:
    """A request's connection between the server and the application, and the stream that the application detaches."""

    __slots__ = (
        "_client_left",
        "_decided",
        "_ended_by_client",
        "_failure",
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
        self._client_left = self._ended_by_client = False
        self.push: Callable[[bytes], bool] | None = None
        """Sends a part at once, before those that the generator yields; returns False where the generator has to. None
        until the stream is detached unchanged, and where the server has no such function."""
        self.scope: ASGIMessage = {}
        self.context = Context()
        self.application: asyncio.Task[None] | None = None
        """None once it has ended."""
        self._failure: BaseException | None = None
        self._parts: AsyncGenerator[bytes] | None = None
        # Done once there are parts, or the application has ended without.
        self._decided = asyncio.get_running_loop().create_future()

    # Called by the application.

    def detach(self, parts: AsyncGenerator[bytes], *, unchanged: bool) -> None:
        """Have the server's task send `parts`. Where they are the view's own, `unchanged`, `push` works too."""
        self._parts = parts
        if unchanged:
            self.push = self._push
        self._decide()

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._client_left |= message["type"] == "http.disconnect"
        return message

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            # The server logs the end of a request in its own context, perhaps before the application has ended.
            self.context.run(request_id.set, request_id.get())
        # Django ends the response that it sends, which isn't the end of the stream.
        if self._parts is None:
            await self._send(message)

    # Called by the server.

    async def run(self) -> None:
        """Return when the application and the stream that it detaches have ended; raise what ended them.

        After a stream that fails, the application still ends by itself, and Django closes what the request opened.
        """
        if self.application:
            # In the context that has the request's id by then.
            self.application.add_done_callback(self._application_ended, context=self.context)
        try:
            await self._decided
            try:
                if self._parts is not None and not self._client_left:
                    await self._send_all(self._parts)
            except Exception:
                await self._wait_for_application()
                raise
            await self._wait_for_application()
        except asyncio.CancelledError:
            if self.application:
                self.application.cancel()
                await self._wait_for_application()
            raise
        if self._failure:
            raise self._failure

    async def _wait_for_application(self) -> None:
        if self.application:
            await asyncio.wait([self.application])

    def _application_ended(self, application: asyncio.Task[None]) -> None:
        self.application, self.scope = None, {}
        if self._parts is None:
            self._failure = asyncio.CancelledError() if application.cancelled() else application.exception()
        elif not application.cancelled() and (failure := application.exception()):
            # Not stored: it refers to the request, and the stream may live long.
            logger.error("application=failed error=%s", type(failure).__name__, exc_info=failure)
        self._decide()

    def _decide(self) -> None:
        if not self._decided.done():
            self._decided.set_result(None)

    async def _send_all(self, parts: AsyncGenerator[bytes]) -> None:
        """Send the stream until it ends or the client leaves."""
        watching = asyncio.create_task(self._watch_client(asyncio.current_task()))
        try:
            async with aclosing(parts):
                # Some servers send the headers together with the first part, which may take long.
                await self._send_part(b"")
                async for part in parts:
                    await self._send_part(part)
            await self._send({"type": "http.response.body"})
        except asyncio.CancelledError:
            if not self._ended_by_client:
                raise
        finally:
            watching.cancel()

    async def _send_part(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def _watch_client(self, sending: "asyncio.Task[Any] | None") -> None:
        """Cancel `sending` when the client leaves. While the application runs, it receives the disconnect itself."""
        if self.application:
            await asyncio.wait([self.application])
        while not self._client_left:
            await self.receive()
        if sending:
            self._ended_by_client = True
            sending.cancel()
