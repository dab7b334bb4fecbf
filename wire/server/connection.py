"""A client's connection, with limits of size and time: a request is refused before all of it arrives."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.web.http import HTTPChannel

# Bytes that the kernel buffers before it can send them: otherwise most of a stalled stream would wait there.
KERNEL_BYTES = 32 * 1024
# Seconds and bytes for which the server reads on from a refused client: a reset could overtake the response.
LINGER_SECONDS = 1.0
LINGER_BYTES = 256 * 1024


class Transport(tcp.Server):  # type: ignore[misc]  # Twisted has no types that mypy reads here
    """A socket that counts the bytes it has sent."""

    sent = 0
    stalled = False
    corked = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with suppress(OSError, AttributeError):  # some systems don't have the option
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802  # Twisted's name, as those below
        sent = super().writeSomeData(data)
        if isinstance(sent, int):
            self.sent += sent
        return sent

    # A part of a response is sent in one piece and at once: to wait until the loop reports the socket as writable costs
    # more than to send it.

    def startWriting(self) -> None:  # noqa: N802
        if not self.corked:
            super().startWriting()

    def cork(self) -> None:
        """Buffer writes until `uncork`."""
        self.corked = True

    def uncork(self) -> None:
        """Send the buffer. The loop sends the rest when the socket is full, and closes the connection."""
        self.corked = False
        waits = self.dataBuffer or self._tempDataLen or self.disconnecting
        if self.connected and waits and (self.doWrite() is not None or self.dataBuffer):
            super().startWriting()

    def send_now(self, data: bytes) -> None:
        """Send data at once if the buffers are empty; the loop sends what the socket doesn't accept."""
        sent = 0
        if self.connected and not (self.dataBuffer or self._tempDataLen or self.disconnecting):
            try:
                sent = self.socket.send(data)
                self.sent += sent
            except OSError:  # the socket is full, or the loop will see the error
                pass
        if sent < len(data):
            self.write(data[sent:])

    def drop(self) -> None:
        self.stalled = True
        self.abortConnection()


class WriteTimeout:
    """Closes connections whose client reads nothing for `seconds`. Regular checks cost less than a timer per write."""

    CHECKS = 10

    def __init__(self, reactor: Any, seconds: float) -> None:
        self.reactor = reactor
        self.seconds = seconds
        self.waiting: dict[Transport, tuple[int, float]] = {}

    def check(self) -> None:
        now = self.reactor.seconds()
        before, self.waiting = self.waiting, {}
        for transport in self.reactor.getWriters():
            if isinstance(transport, Transport):
                sent, since = before.get(transport, (transport.sent, now))
                since = since if sent == transport.sent else now
                self.waiting[transport] = transport.sent, since
                if now - since >= self.seconds:
                    transport.drop()
        self.reactor.callLater(self.seconds / self.CHECKS, self.check)


class Connection(HTTPChannel):  # type: ignore[misc]  # Twisted has no types that mypy reads here
    """Twisted's HTTP/1.1 connection."""

    writable: asyncio.Event | None = None
    """Exists while the transport's buffer is full; set once the buffer has room again."""
    refused = False
    _lingered = 0

    # Back-pressure: a writer waits while the client is behind. A WebSocket's protocol replaces this one, which stays
    # the transport's producer.

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name, as those below
        super().pauseProducing()
        self.writable = self.writable or asyncio.Event()

    def resumeProducing(self) -> None:  # noqa: N802
        super().resumeProducing()
        self._set_writable()

    def stopProducing(self) -> None:  # noqa: N802
        super().stopProducing()
        self._set_writable()

    def _set_writable(self) -> None:
        if self.writable:
            self.writable.set()
            self.writable = None

    # Requests that the server refuses before all of them has arrived.

    def allHeadersReceived(self) -> None:  # noqa: N802
        if self.requests[-1].is_too_large(self.length or 0):
            self.refuse(413)
        else:
            super().allHeadersReceived()

    def allContentReceived(self) -> None:  # noqa: N802
        if not self.refused:
            super().allContentReceived()

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: N802
        self.refuse(400)

    def _respondToBadRequestAndDisconnect(self) -> None:  # noqa: N802
        self.refuse(400)

    def refuse(self, status: int) -> None:
        """Respond in the application's place, then close."""
        if self.refused:
            return
        self.refused = True
        self.setTimeout(None)
        self.setRawMode()
        self.rawDataReceived = self._linger
        if not self.requests:
            self.requests.append(self.requestFactory(self))
        self.requests[-1].refuse(status, getattr(self, "_command", b"-"), getattr(self, "_path", b"-"))

    def _linger(self, data: bytes) -> None:
        self._lingered += len(data)
        if self._lingered > LINGER_BYTES:
            self.transport.pauseProducing()

    def loseConnection(self) -> None:  # noqa: N802
        if self.refused:
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
            self._abortingCall = self.callLater(LINGER_SECONDS, self.forceAbortClient)
        else:
            super().loseConnection()
        self._set_writable()

    def timeoutConnection(self) -> None:  # noqa: N802
        if self.requests:
            self.refuse(408)
        else:
            super().timeoutConnection()
