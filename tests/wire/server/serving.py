"""Applications of a few lines behind a real server: this project's, or uvicorn."""

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.processes import PATIENCE, ROOT, Served, running

MODULE = """
import asyncio, json, logging, sys, time

async def answer(send, text="hello", status=200):
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})

async def start(send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})

async def part(send, data):
    await send({"type": "http.response.body", "body": data, "more_body": True})

APPLICATION

if __name__ == "__main__":
    from wire.server.limits import ServerLimits
    from wire.server.server import Server
    logging.basicConfig(level="INFO", format="%(name)s %(message)s")
    limits = ServerLimits(**json.loads(sys.argv[1]))
    Server(application, host="127.0.0.1", port=0, announce=lambda url: print("ready on", url), limits=limits).run()
"""


@contextmanager
def own(directory: Path, application: str, **limits: float) -> Iterator[Served]:
    script = write(directory, application)
    command = [sys.executable, str(script), json.dumps(limits)]
    with running(command, r"ready on http://localhost:(\d+)", PYTHONPATH=str(ROOT)) as it:
        yield it


@contextmanager
def uvicorn(directory: Path, application: str, **limits: float) -> Iterator[Served]:
    script = write(directory, application)
    command = [sys.executable, "-m", "uvicorn", f"{script.stem}:application", f"--app-dir={directory}", "--port=0"]
    with running(command, r"running on http://\S+:(\d+)") as it:
        yield it


def write(directory: Path, application: str) -> Path:
    script = directory / "served.py"
    script.write_text(MODULE.replace("APPLICATION", dedent(application)))
    return script


SERVERS: dict[str, Callable[..., Any]] = {"serve": own, "uvicorn": uvicorn}


@dataclass
class Peer:
    """A client that does just what it is told."""

    socket: socket.socket

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> None:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            *(f"{k.replace('_', '-')}: {headers[k]}" for k in headers),
        ]
        self.send("\r\n".join([*lines, "\r\n"]).encode())

    def read_until(self, end: bytes) -> bytes:
        seen = b""
        while end not in seen:
            data = self.socket.recv(65_536)
            assert data, f"the server closed after {seen!r}"
            seen += data
        return seen

    def read_rest(self) -> tuple[bytes, bool]:
        """Return what still comes, and whether the connection was reset at the end."""
        seen = b""
        try:
            while data := self.socket.recv(65_536):
                seen += data
        except ConnectionResetError:
            return seen, True
        return seen, False


@contextmanager
def connected(it: Served, receive_buffer: int | None = None) -> Iterator[Peer]:
    with socket.socket() as raw:
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", int(it.url.rsplit(":", 1)[1])))
        yield Peer(raw)


def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait for a condition; return what it is."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "what the test waits for didn't happen"
        time.sleep(0.01)
    return value


def memory(it: Served) -> int:
    """Return the KB that a process holds; Linux tells in /proc."""
    status = Path(f"/proc/{it.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def terminate(it: Served) -> None:
    it.process.send_signal(signal.SIGTERM)
