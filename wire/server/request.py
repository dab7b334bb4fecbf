"""A request and its response in the server: the response is complete, or the client can tell that it isn't."""

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from http.client import responses
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import Any, Literal
from urllib.parse import quote

from daphne.http_protocol import WebRequest
from twisted.web.http_headers import Headers

from wire.asgi import draining
from wire.errors import envelope
from wire.server.body_limit import view_max_body_bytes

logger = logging.getLogger("wire.access")

SPOOLED_BYTES = 1024 * 1024
# Shared by all requests that no longer need their own.
NO_HEADERS = Headers()
NO_ARGUMENTS: Mapping[bytes, list[bytes]] = MappingProxyType({})


class MessageQueue:
    """The messages for an application. An `asyncio.Queue` takes 2 KB, where most have to hold one message."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, Any]] = []
        self.waiting: asyncio.Future[None] | None = None

    def put_nowait(self, message: Mapping[str, Any]) -> None:
        self.messages.append(message)
        if self.waiting and not self.waiting.done():
            self.waiting.set_result(None)

    async def get(self) -> Mapping[str, Any]:
        while not self.messages:
            self.waiting = asyncio.get_running_loop().create_future()
            await self.waiting
        return self.messages.pop(0)


# The response is complete; the application failed; the client left; it read nothing for too long; the server refused.
Outcome = Literal["complete", "failed", "left", "stalled", "refused"]


class ServerRequest(WebRequest):  # type: ignore[misc]  # daphne has no types
    """daphne's request. Its response is complete, or its connection breaks off visibly."""

    outcome: Outcome | None = None
    application: asyncio.Task[None] | None = None
    is_streaming = False
    """Whether the headers are sent and chunks follow."""
    requestHeaders: Headers  # noqa: N815  # Twisted's name
    _received = 0
    _max_body_bytes: int | None = None

    def __init__(self, channel: Any, queued: object = False) -> None:
        super().__init__(channel, queued, parsePOSTFormSubmission=False)
        self.client_addr = [self.client.host, self.client.port]

    # The request.

    def gotLength(self, length: int | None) -> None:  # noqa: N802  # Twisted's name, as those below
        self.content = SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  # closed with the request

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        if self.finished:
            return
        self._received += len(data)
        if self.is_too_large(self._received):
            self.channel.refuse(413)
        else:
            super().handleContentChunk(data)

    def is_too_large(self, length: int) -> bool:
        """Tell whether a body of this length is larger than its view allows; only a large one needs the view."""
        least: int = self.server.limits.BODY_MAX_BYTES
        if length <= least:
            return False
        if self._max_body_bytes is None:
            target: bytes = self.channel._path
            self._max_body_bytes = view_max_body_bytes(target, self.server.root_path)
        return length > max(least, self._max_body_bytes)

    def process(self) -> None:
        # daphne would trust it, and serve one path as another.
        if self.requestHeaders.hasHeader(b"Daphne-Root-Path"):
            self.channel.refuse(400)
            return
        super().process()
        # The scope has them, and a stream lives long.
        self.requestHeaders, self.clean_headers, self.args = NO_HEADERS, (), NO_ARGUMENTS
        if not self.finished:
            self.content.close()
            self.content = None  # type: ignore[assignment]  # Twisted sets it so too
            # A dict doesn't shrink when attributes are deleted: a copy is half the size.
            for each in (self, self.channel):
                each.__dict__ = dict(each.__dict__.items())

    # The response.

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:  # noqa: N802  # Twisted's name
        """Set the status with its phrase: Twisted has none for 422 and 429."""
        super().setResponseCode(code, message or responses.get(code, "").encode() or None)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a part of the response; wait while the client is behind."""
        if self.finished or self._disconnected:
            await asyncio.sleep(0)  # otherwise an application that only writes would block the loop
            return
        if self.is_streaming and message.get("more_body"):
            self.send_chunk(message.get("body", b""))
        else:
            self.write_message(message)
        if not self.finished and (writable := self.channel.writable):
            await writable.wait()

    def push(self, part: bytes) -> bool:
        """Send the next part of a stream at once; return False if the client is behind or has left."""
        if self.finished or self._disconnected or self.channel.writable or not self.is_streaming:
            return False
        self.send_chunk(part)
        return True

    def send_chunk(self, part: bytes) -> None:
        """Send the next part of a stream past daphne and Twisted, which would double the cost."""
        if part:
            self.channel.transport.send_now(b"%x\r\n%b\r\n" % (len(part), part))

    def write_message(self, message: Mapping[str, Any]) -> None:
        """Have daphne write a part of the response in one piece."""
        if message["type"] == "http.response.start":
            self.server.check_headers_type(message)
        transport = self.channel.transport
        transport.cork()
        try:
            self.handle_reply(message)
        finally:
            transport.uncork()

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and draining.started.is_set:
            self.close_after_response()
        super().handle_reply(message)
        if self.chunked and self.startedWriting:
            self.is_streaming = True
            self.responseHeaders = NO_HEADERS  # they are sent

    def close_after_response(self) -> None:
        """Close the connection after this response, and announce it to the client."""
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def refuse(self, status: int, method: bytes, target: bytes) -> None:
        """Respond to a request that the application never sees."""
        self.method, self.uri, self.clientproto = method, target, b"HTTP/1.1"
        self.outcome = "refused"
        self.close_after_response()
        self.send_error(status)

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        self.send_error(status)

    def send_error(self, status: int) -> None:
        """Send an error in this project's shape as the response."""
        content = json.dumps(envelope(status)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        headers["X-Request-ID"] = secrets.token_hex(16)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.handle_reply({"type": "http.response.start", "status": status, "headers": pairs})
        self.handle_reply({"type": "http.response.body", "body": content})

    # The end.

    def application_ended(self) -> None:
        """End the response if the application has ended without."""
        if self.finished or self._disconnected:
            return
        self.outcome = "failed"
        if self.startedWriting:
            self.abort()
        else:
            self._response_started = False
            self.responseHeaders = Headers()
            self.send_error(500)

    def abort(self) -> None:
        """Close the connection so that the client sees an incomplete response."""
        if self.chunked or self.responseHeaders.hasHeader(b"Content-Length"):
            self.channel.loseConnection()  # the last chunk is missing
        else:
            self.transport.abortConnection()

    def finish(self) -> None:
        if draining.started.is_set:
            self.channel.persistent = False
        super().finish()
        self.log(self.outcome or "complete")

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        super().connectionLost(reason)
        if self.path:
            self.log("stalled" if self.transport.stalled else self.outcome or "left")

    def log(self, outcome: Outcome) -> None:
        """Log how a request ended, under its id, without its query: that may hold keys and messages."""
        line = "method=%s path=%s status=%s duration=%.3f client=%s outcome=%s"
        # A path may hold control characters.
        path = quote(self.uri.partition(b"?")[0], safe="/%:@!$&'()*+,;=~")
        status = self.code if self.startedWriting else "-"
        values = (quote(self.method), path, status, self.duration(), ":".join(map(str, self.client_addr)), outcome)
        if self.application:
            self.application.get_context().copy().run(logger.info, line, *values)
        else:
            logger.info(line, *values)
