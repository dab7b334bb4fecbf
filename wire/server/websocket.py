"""A client's WebSocket: daphne's, with what ASGI asks for and daphne leaves out, and a bound on what waits in it."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol

from wire.errors import envelope
from wire.server.request import Inbox

# Seconds after which a client that says nothing is pinged, and in which it has to answer, to shake hands and to say
# good-bye. autobahn's timers may be a second early.
PING_SECONDS, PONG_SECONDS, HANDSHAKE_SECONDS, CLOSING_SECONDS = 15, 30, 20, 5
# Messages that may wait for the application; then nothing more is read from the client until it has taken one.
WAITING = 4
# Kinds of messages, and what a connection is closed with where its application doesn't say: RFC 6455 and its registry.
TEXT, BINARY = 1, 2
NORMAL, FAILED, RESTARTING = 1000, 1011, 1012

# What an application may do beyond the core of ASGI; it finds this in its scope.
EXTENSIONS: dict[str, dict[str, Any]] = {"websocket.http.response": {}}


class WebSockets(WebSocketFactory):  # type: ignore[misc]  # daphne has no types
    """Makes the server's WebSockets. None of them packs what it sends, or unpacks what comes."""

    def __init__(self, server: Any) -> None:
        super().__init__(server, server="")
        self.protocol = WebSocket
        largest = server.limits.BODY_MAX_BYTES
        self.setProtocolOptions(
            autoPingTimeout=PONG_SECONDS,
            failByDrop=False,  # who breaks the protocol is told so
            allowNullOrigin=True,
            openHandshakeTimeout=HANDSHAKE_SECONDS,
            closeHandshakeTimeout=CLOSING_SECONDS,
            maxMessagePayloadSize=largest,
            maxFramePayloadSize=largest,
        )
        # daphne pings, and closes what is a day old.
        server.ping_interval = PING_SECONDS
        server.websocket_timeout = -1


@dataclass
class Denial:
    """A response to a handshake that isn't accepted, as far as the application has made it."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""


class WebSocket(WebSocketProtocol):  # type: ignore[misc]  # daphne has no types
    """A connection. Names in camel case are daphne's and autobahn's."""

    application: "asyncio.Task[None] | None" = None
    denial: Any = None
    unread = False

    # From the client to the application.

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        super().onMessage(payload, isBinary)
        if len(self.application_queue.messages) >= WAITING and not self.unread:
            self.unread = True
            self.transport.pauseProducing()

    async def receive(self, inbox: Inbox) -> Mapping[str, Any]:
        """Return what the application is told next."""
        message = await inbox.get()
        if self.unread and len(inbox.messages) < WAITING:
            self.unread = False
            self.transport.resumeProducing()
        return message

    # From the application to the client.

    async def send(self, message: Mapping[str, Any]) -> None:
        """Take a message from the application; wait while the client is behind."""
        if self not in self.server.websockets:
            await asyncio.sleep(0)  # or an application that only writes would never let go
            return
        self.handle_reply(message)
        if full := getattr(self.transport.producer, "full", None):
            await full.wait()

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
        """Answer a handshake that fails. autobahn's `reason` stays here: it may be the text of an exception."""
        json_type = (b"Content-Type", b"application/json")
        denial = self.denial or Denial(code, [json_type], json.dumps(envelope(code)).encode())
        phrase = HTTPStatus(code).phrase if code in HTTPStatus else ""
        lines = [f"HTTP/1.1 {code} {phrase}".encode()]
        lines += [b"%b: %b" % pair for pair in denial.headers]
        lines += [b"Content-Length: %d" % len(denial.body), b"Connection: close", b"", denial.body]
        self.sendData(b"\r\n".join(lines))

    def serverSend(self, content: Any, binary: bool = False) -> None:  # noqa: N802
        """Send a message of any size: autobahn's bound is for what comes."""
        if self.state == self.STATE_OPEN:
            self.sendFrame(BINARY if binary else TEXT, content if binary else content.encode())

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802
        """Close with any code: autobahn keeps those of the standard from applications."""
        if self.state == self.STATE_CONNECTING:
            self.serverReject()
        else:
            self.sendCloseFrame(code or NORMAL)

    def ended(self) -> None:
        """Make sure, when the application has ended, that the connection has."""
        if self in self.server.websockets:
            self.deny(500) if self.state == self.STATE_CONNECTING else self.serverClose(FAILED)
