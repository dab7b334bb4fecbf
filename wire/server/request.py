"""A request and its response, as the server sees them: how it began, how it ended, and that one can tell."""

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
# Shared by all who need theirs no more.
NO_HEADERS = Headers()
NO_ARGUMENTS: Mapping[bytes, list[bytes]] = MappingProxyType({})


class Inbox:
    """What the application is told. An `asyncio.Queue` is 2 KB, for one message that is yet to come."""

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


# Whole; the application failed; the client left, or took nothing for too long; the application never saw the request.
Outcome = Literal["complete", "failed", "left", "stalled", "refused"]


class ServerRequest(WebRequest):  # type: ignore[misc]  # daphne has no types
    """daphne's request. Its response is whole, or is seen to be cut."""

    outcome: Outcome | None = None
    application: asyncio.Task[None] | None = None
    is_streaming = False
    """Whether the headers have left and parts of unknown length follow."""
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
        """Tell whether a body of this length is more than its view takes; the view is looked up where it matters."""
        least: int = self.server.limits.BODY_MAX_BYTES
        if length <= least:
            return False
        if self._max_body_bytes is None:
            target: bytes = self.channel._path
            self._max_body_bytes = view_max_body_bytes(target, self.server.root_path)
        return length > max(least, self._max_body_bytes)

    def process(self) -> None:
        # daphne would believe it, and serve one path as another.
        if self.requestHeaders.hasHeader(b"Daphne-Root-Path"):
            self.channel.refuse(400)
            return
        super().process()
        # The application has it, and a stream lives long.
        self.requestHeaders, self.clean_headers, self.args = NO_HEADERS, (), NO_ARGUMENTS
        if not self.finished:
            self.content.close()
            self.content = None  # type: ignore[assignment]  # Twisted's own word for none
            # Attributes came and went by now, and a dict never shrinks: copied, each is half its size.
            for each in (self, self.channel):
                each.__dict__ = dict(each.__dict__.items())

    # The response.

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:  # noqa: N802  # Twisted's name
        """Set the status with its phrase: Twisted knows none of 422 and 429."""
        super().setResponseCode(code, message or responses.get(code, "").encode() or None)

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take a part of the response from the application; wait while the client is behind."""
        if self.finished or self._disconnected:
            await asyncio.sleep(0)  # or an application that only writes would never let go
            return
        if self.is_streaming and message.get("more_body"):
            self.pass_on(message.get("body", b""))
        else:
            self.take(message)
        if not self.finished and (full := self.channel.full):
            await full.wait()

    def push(self, part: bytes) -> bool:
        """Take the next part of a stream without being waited for, unless the client is behind or gone."""
        if self.finished or self._disconnected or self.channel.full or not self.is_streaming:
            return False
        self.pass_on(part)
        return True

    def pass_on(self, part: bytes) -> None:
        """Send the next part of a stream; the way through daphne and Twisted costs as much again."""
        if part:
            self.channel.transport.send_now(b"%x\r\n%b\r\n" % (len(part), part))

    def take(self, message: Mapping[str, Any]) -> None:
        """Have daphne write a part of the response, which leaves in one piece."""
        if message["type"] == "http.response.start":
            self.server.check_headers_type(message)
        transport = self.channel.transport
        transport.cork()
        try:
            self.handle_reply(message)
        finally:
            transport.uncork()

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and draining.begun.has_come:
            self.say_goodbye()
        super().handle_reply(message)
        if self.chunked and self.startedWriting:
            self.is_streaming = True
            self.responseHeaders = NO_HEADERS  # they have left

    def say_goodbye(self) -> None:
        """Have the connection closed after this response, and the client know."""
        self.channel.persistent = False
        self.responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def refuse(self, status: int, method: bytes, target: bytes) -> None:
        """Answer a request that the application never sees."""
        self.method, self.uri, self.clientproto = method, target, b"HTTP/1.1"
        self.outcome = "refused"
        self.say_goodbye()
        self.answer(status)

    def basic_error(self, status: int, status_text: bytes, body: str) -> None:
        self.answer(status)

    def answer(self, status: int) -> None:
        """Answer with an error of ours."""
        content = json.dumps(envelope(status)).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        headers["X-Request-ID"] = secrets.token_hex(16)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.handle_reply({"type": "http.response.start", "status": status, "headers": pairs})
        self.handle_reply({"type": "http.response.body", "body": content})

    # The end.

    def ended(self) -> None:
        """Make sure, when the application has ended, that the response has."""
        if self.finished or self._disconnected:
            return
        self.outcome = "failed"
        if self.startedWriting:
            self.cut()
        else:
            self._response_started = False
            self.responseHeaders = Headers()
            self.answer(500)

    def cut(self) -> None:
        """Close the connection so that nobody takes what was sent for the whole."""
        if self.chunked or self.responseHeaders.hasHeader(b"Content-Length"):
            self.channel.loseConnection()  # what was written still leaves; its end is missing
        else:
            self.transport.abortConnection()

    def finish(self) -> None:
        if draining.begun.has_come:
            self.channel.persistent = False
        super().finish()
        self.log(self.outcome or "complete")

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        super().connectionLost(reason)
        if self.path:
            self.log("stalled" if self.transport.stalled else self.outcome or "left")

    def log(self, outcome: Outcome) -> None:
        """Log what became of a request, under its id. Its query stays out: keys and messages travel there."""
        line = "method=%s path=%s status=%s duration=%.3f client=%s outcome=%s"
        # Control characters reach this point as they were sent.
        path = quote(self.uri.partition(b"?")[0], safe="/%:@!$&'()*+,;=~")
        status = self.code if self.startedWriting else "-"
        values = (quote(self.method), path, status, self.duration(), ":".join(map(str, self.client_addr)), outcome)
        if self.application:
            self.application.get_context().copy().run(logger.info, line, *values)
        else:
            logger.info(line, *values)
