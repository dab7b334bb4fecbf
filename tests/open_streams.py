"""Many open streams of one service, and what they cost its process."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes import Served
from tests.upstream import Script, deltas

# More at once only wait for each other.
OPENING = 8
# The model says a token and no more, and no timeout ends it.
SAYS_LITTLE = Script([*deltas("Hello"), 3_600.0])
PATIENT = {
    "MODEL_IDLE_TIMEOUT": "3600",
    "STREAM_TIMEOUT": "3600",
    "CHAT_CONCURRENCY": "5000",
    "CHAT_CONCURRENCY_PER_CALLER": "5000",
    "LOG_LEVEL": "ERROR",
}


@dataclass(frozen=True)
class Footprint:
    """What a process holds: KB of memory, threads, connections to its SQLite database; Linux tells in /proc."""

    memory: int
    threads: int
    database: int


def footprint(served: Served) -> Footprint:
    process = Path(f"/proc/{served.process.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    # Each connection has a log of its own open, and no longer than it lives.
    connections = sum(target(link).endswith("-wal") for link in (process / "fd").iterdir())
    return Footprint(int(status["VmRSS"].split()[0]), int(status["Threads"]), connections)


def target(link: Path) -> str:
    try:
        return str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return ""


class Streams:
    """Open streams of one service."""

    def __init__(self, served: Served) -> None:
        address = urlsplit(served.url)
        self.host, self.port = address.hostname, address.port
        self.gate = asyncio.Semaphore(OPENING)
        self.opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, count: int) -> None:
        await asyncio.gather(*(self.open_one() for _ in range(count)))

    async def open_one(self) -> None:
        """Return when the first token is there; the stream stays open."""
        async with self.gate:
            reader, writer = await self.ask("POST", "/api/agent/chat?stream=true", {"message": "Go on"})
            self.opened.append((reader, writer))
            await reader.readuntil(b'"type": "token"')

    async def ask(
        self, method: str, path: str, body: object = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        return reader, writer

    async def healthz(self) -> float:
        """Return after how many milliseconds it answered."""
        began = time.perf_counter()
        reader, writer = await self.ask("GET", "/healthz")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        return 1_000 * (time.perf_counter() - began)

    async def first_token(self) -> float:
        began = time.perf_counter()
        await self.open_one()
        return 1_000 * (time.perf_counter() - began)

    async def all_open(self) -> bool:
        """Tell whether none of the streams has ended, well or badly."""
        ended = [asyncio.create_task(reader.readuntil(b'"error"')) for reader, _ in self.opened]
        done, _ = await asyncio.wait(ended, timeout=0.1)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        return not done

    async def close(self) -> None:
        for _, writer in self.opened:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self.opened), return_exceptions=True)
