"""A client's WebSocket: daphne's, with the parts of ASGI that daphne lacks, and a limit on messages that wait."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from wire.errors import envelope
from wire.server.request import MessageQueue

# Seconds after which a silent client gets a ping, and the limits of its pong, the opening and the closing handshake.
# autobahn's timers may be a second early.
PING_SECONDS, PONG_SECONDS, HANDSHAKE_SECONDS, CLOSING_SECONDS = 15, 30, 20, 5
# Messages that may wait for the application; until it receives one, the server reads no more from the client.
MAX_QUEUED = 4
# Opcodes of messages, and the codes with which the server closes a connection: RFC 6455 and its registry.
TEXT, BINARY = 1, 2
NORMAL, FAILED, RESTARTING = 1000, 1011, 1012

# The ASGI extensions that a scope offers.
EXTENSIONS: dict[str, dict[str, Any]] = {"websocket.http.response": {}}


class WebSockets(WebSocketFactory):  # type: ignore[misc]  # daphne has no types
    """Makes the server's WebSockets, which don't compress messages."""

    def __init__(self, server: Any) -> None:
        super().__init__(server, server="")
        self.protocol = WebSocket
        largest = server.limits.BODY_MAX_BYTES
        self.setProtocolOptions(
            autoPingTimeout=PONG_SECONDS,
            failByDrop=False,  # a client that breaks the protocol gets a close frame
            allowNullOrigin=True,
            openHandshakeTimeout=HANDSHAKE_SECONDS,
            closeHandshakeTimeout=CLOSING_SECONDS,
            maxMessagePayloadSize=largest,
            maxFramePayloadSize=largest,
        )
        # daphne sends the pings; it would close a connection after a day.
        server.ping_interval = PING_SECONDS
        server.websocket_timeout = -1


@dataclass
class Denial:
    """A response that denies a handshake, as far as the application has sent it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""


class WebSocket(WebSocketProtocol):  # type: ignore[misc]  # daphne has no types
    """A connection. Names in camel case are daphne's and autobahn's."""

    application: "asyncio.Task[None] | None" = None
    denial: Any = None
    is_paused = False

    # From the client to the application.

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        super().onMessage(payload, isBinary)
        if len(self.application_queue.messages) >= MAX_QUEUED and not self.is_paused:
            self.is_paused = True
            self.transport.pauseProducing()

    async def receive(self, queue: MessageQueue) -> Mapping[str, Any]:
        """Return the application's next message."""
        message = await queue.get()
        if self.is_paused and len(queue.messages) < MAX_QUEUED:
            self.is_paused = False
            self.transport.resumeProducing()
        return message

    # From the application to the client.

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send a message of the application; wait while the client is behind."""
        if self not in self.server.websockets:
            await asyncio.sleep(0)  # otherwise an application that only writes would block the loop
            return
        self.handle_reply(message)
        if writable := getattr(self.transport.producer, "writable", None):
            await writable.wait()

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                headers = {name.decode(): value.decode() for name, value in message.get("headers", [])}
                self.handshake_deferred.callback((message.get("subprotocol"), headers))
                del self.handshake_deferred
            case "websocket.http.response.start":
                self.denial = Denial(message["status"], list(message.get("headers", [])))
            case "websocket.http.response.body":
                self.denial.body += message.get("body", b"")
                if not message.get("more_body"):
                    self.deny(self.denial.status)
            case _:
                super().handle_reply(message)

    def deny(self, status: int) -> None:
        """Refuse the handshake."""
        self.handshake_deferred.errback(ConnectionDeny(status))  # type: ignore[no-untyped-call]  # autobahn's
        del self.handshake_deferred
        self.server.protocol_disconnected(self)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: object = None) -> None:  # noqa: N802, N803
        """Respond to a handshake that fails, without autobahn's `reason`, which may be the text of an exception."""
        json_type = (b"Content-Type", b"application/json")
        denial = self.denial or Denial(code, [json_type], json.dumps(envelope(code)).encode())
        phrase = HTTPStatus(code).phrase if code in HTTPStatus else ""
        lines = [f"HTTP/1.1 {code} {phrase}".encode()]
        lines += [b"%b: %b" % pair for pair in denial.headers]
        lines += [b"Content-Length: %d" % len(denial.body), b"Connection: close", b"", denial.body]
        self.sendData(b"\r\n".join(lines))

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: N802
        """Send a message of any size: autobahn would apply the limit of received ones."""
        if self.state == self.STATE_OPEN:
            self.sendFrame(BINARY if binary else TEXT, content if binary else content.encode())

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802
        """Close with any code: autobahn refuses an application the standard's own."""
        if self.state == self.STATE_CONNECTING:
            self.serverReject()
        else:
            self.sendCloseFrame(code or NORMAL)

    def application_ended(self) -> None:
        """End the connection if the application has ended without."""
        if self in self.server.websockets:
            self.deny(500) if self.state == self.STATE_CONNECTING else self.serverClose(FAILED)
