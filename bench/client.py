"""A client that costs little: it counts the bytes that it reads, and parses none."""

import asyncio
import gc
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# Once in each delta, and nowhere else in an answer, however its text is cut.
DELTA = b"#"
STAMP = re.compile(rb"t(\d{13}) ")
# Seconds that an answer may take, and that a late token is waited for.
PATIENCE = 120
STRAGGLERS = 2.0
# Chats that are begun side by side while many are opened.
AT_ONCE = 16

gc.disable()  # a pause of the client's would be counted as the relay's


class Reader(asyncio.Protocol):
    """Sends one request and reads its answer until the connection closes; looks for the first of `mark`."""

    transport: Any  # uvloop's is no subclass of asyncio's
    mark = DELTA

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.first: asyncio.Future[float] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.begins, self.seen = True, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.begun = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if self.begins:
            self.seen += data
            if self.mark not in self.seen:
                return
            self.begins = False
            self.first.set_result(time.perf_counter() - self.begun)
            data, self.seen = self.seen, b""
        self.read(data)

    def read(self, data: bytes) -> None:
        """Take what comes from the first mark on."""

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)
        if not self.first.done():
            self.first.set_exception(AssertionError(f"no answer but {self.seen[-500:]!r}"))


class Counter(Reader):
    """Counts deltas."""

    deltas = 0
    last = b""

    def read(self, data: bytes) -> None:
        self.last = (self.last + data)[-300:]
        self.deltas += data.count(DELTA)


@dataclass
class Window:
    """How late the tokens were, in seconds, that left the upstream between two moments (microseconds, monotonic)."""

    begin: int
    end: int
    lateness: list[float] = field(default_factory=list)


class Paced(Reader):
    """Notes how late each token is."""

    mark = b"t0"
    window: Window | None = None

    def read(self, data: bytes) -> None:
        window = Paced.window
        if window is None:
            return
        now = time.monotonic_ns() // 1_000
        for stamp in STAMP.findall(data):
            if window.begin <= (left := int(stamp)) < window.end:
                window.lateness.append((now - left) / 1e6)


async def opened[R: Reader](url: str, reader: R) -> R:
    address = urlsplit(url)
    await asyncio.get_running_loop().create_connection(lambda: reader, address.hostname, address.port)
    return reader


async def answers(url: str, request: bytes, *, streams: int, deltas: int) -> None:
    """Read answers side by side to their ends, and see that nothing is missing."""

    async def one() -> None:
        reader = await opened(url, Counter(request))
        await asyncio.wait_for(reader.over, PATIENCE)
        await reader.first
        assert reader.deltas == deltas, f"{reader.deltas} of {deltas} deltas came from {url} {reader.last}"

    await asyncio.gather(*(one() for _ in range(streams)))


async def first_token(url: str, request: bytes) -> float:
    """Return the seconds from a request to its first token, and read on to the end."""
    reader = await opened(url, Counter(request))
    await asyncio.wait_for(reader.over, PATIENCE)
    return await reader.first


@asynccontextmanager
async def paced(url: str, request: bytes) -> AsyncIterator["Crowd"]:
    """Hold streams open that the upstream paces; they are closed with the block."""
    crowd = Crowd(url, request)
    try:
        yield crowd
    finally:
        for stream in crowd.streams:
            stream.transport.abort()


class Crowd:
    """Open streams of one relay."""

    def __init__(self, url: str, request: bytes) -> None:
        self.url, self.request = url, request
        self.streams: list[Paced] = []

    async def grow(self, count: int) -> None:
        """Open streams until there are `count`, a few at a time; each has its first token."""
        while len(self.streams) < count:
            more = range(min(AT_ONCE, count - len(self.streams)))
            new = await asyncio.gather(*(opened(self.url, Paced(self.request)) for _ in more))
            await asyncio.wait_for(asyncio.gather(*(stream.first for stream in new)), PATIENCE)
            self.streams += new

    async def lateness(self, *, seconds: float, expected: int) -> Sequence[float]:
        """Return how late the tokens of the next seconds are; those that don't come are late for ever."""
        now = time.monotonic_ns() // 1_000
        window = Paced.window = Window(now, now + int(seconds * 1e6))
        await asyncio.sleep(seconds)
        waited = time.perf_counter()
        # An event for each token would cost more than looking now and then.
        while len(window.lateness) < expected and time.perf_counter() - waited < STRAGGLERS:
            await asyncio.sleep(0.05)
        Paced.window = None
        return [*window.lateness, *[float("inf")] * (expected - len(window.lateness))]


async def pace(url: str, streams: int) -> None:
    """Set as many streams going of the server that makes the tokens."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"GET /pace/{streams} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def post(path: str, body: bytes, **headers: str) -> bytes:
    """Return a request whose connection closes with its answer."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *lines,
    ]
    return "\r\n".join([*head, "\r\n"]).encode() + body
