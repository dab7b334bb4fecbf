"""A client's connection: what is too large or too slow is refused before it has come, and nothing waits for ever."""

import asyncio
import socket
from contextlib import suppress
from typing import Any

from twisted.internet import tcp
from twisted.web.http import HTTPChannel

# Bytes that the kernel takes before they can be sent: of a stalled stream, most would wait there.
KERNEL_BYTES = 32 * 1024
# Seconds, and bytes, for which a refused client is listened to, or it might not see its answer before the reset.
LINGER_SECONDS = 1.0
LINGER_BYTES = 256 * 1024


class Transport(tcp.Server):  # type: ignore[misc]  # Twisted has no types that mypy reads here
    """A socket that counts the bytes its reader takes."""

    taken = 0
    stalled = False
    corked = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with suppress(OSError, AttributeError):  # not every system has it
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)

    def writeSomeData(self, data: bytes) -> Any:  # noqa: N802  # Twisted's name, as those below
        taken = super().writeSomeData(data)
        if isinstance(taken, int):
            self.taken += taken
        return taken

    # A part of a response leaves in one piece, and at once: to be told by the loop that the socket takes it costs more
    # than to send it.

    def startWriting(self) -> None:  # noqa: N802
        if not self.corked:
            super().startWriting()

    def cork(self) -> None:
        """Hold back what is written until `uncork`."""
        self.corked = True

    def uncork(self) -> None:
        """Send what was written; what the socket doesn't take yet, and a close, are left to the loop."""
        self.corked = False
        waits = self.dataBuffer or self._tempDataLen or self.disconnecting
        if self.connected and waits and (self.doWrite() is not None or self.dataBuffer):
            super().startWriting()

    def send_now(self, data: bytes) -> None:
        """Write past the buffers where nothing waits in them; what the socket doesn't take is left to the loop."""
        taken = 0
        if self.connected and not (self.dataBuffer or self._tempDataLen or self.disconnecting):
            try:
                taken = self.socket.send(data)
                self.taken += taken
            except OSError:  # it is full, or the loop will find out what it is
                pass
        if taken < len(data):
            self.write(data[taken:])

    def drop(self) -> None:
        self.stalled = True
        self.abortConnection()


class Readers:
    """Those for whom bytes wait; who takes none for `seconds` is dropped. To look is cheaper than a timer a write."""

    LOOKS = 10

    def __init__(self, reactor: Any, seconds: float) -> None:
        self.reactor = reactor
        self.seconds = seconds
        self.waiting: dict[Transport, tuple[int, float]] = {}

    def look(self) -> None:
        now = self.reactor.seconds()
        before, self.waiting = self.waiting, {}
        for transport in self.reactor.getWriters():
            if isinstance(transport, Transport):
                taken, since = before.get(transport, (transport.taken, now))
                since = since if taken == transport.taken else now
                self.waiting[transport] = transport.taken, since
                if now - since >= self.seconds:
                    transport.drop()
        self.reactor.callLater(self.seconds / self.LOOKS, self.look)


class Connection(HTTPChannel):  # type: ignore[misc]  # Twisted has no types that mypy reads here
    """Twisted's HTTP/1.1 connection."""

    full: asyncio.Event | None = None
    """There while more bytes wait for the client than the transport likes to hold; set once they have left."""
    refused = False
    _lingered = 0

    # Who writes waits for who reads. A WebSocket's protocol takes the place of this one, but it stays the producer.

    def pauseProducing(self) -> None:  # noqa: N802  # Twisted's name, as those below
        super().pauseProducing()
        self.full = self.full or asyncio.Event()

    def resumeProducing(self) -> None:  # noqa: N802
        super().resumeProducing()
        self._flow()

    def stopProducing(self) -> None:  # noqa: N802
        super().stopProducing()
        self._flow()

    def _flow(self) -> None:
        if self.full:
            self.full.set()
            self.full = None

    # What is refused before it has arrived.

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
        """Answer in the application's place, then close."""
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
        self._flow()

    def timeoutConnection(self) -> None:  # noqa: N802
        if self.requests:
            self.refuse(408)
        else:
            super().timeoutConnection()
