"""A scripted model server: OpenAI's streaming protocol and every way to break it, on a port of this machine.

`async with Upstream(reply("Hello", " world")) as upstream:` and point a model at `upstream.url`. Each request plays the
next script, the last one again and again; `upstream.script = ...` sets what all requests from then on get.
"""

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

# Seconds that a test waits for what has to happen.
PATIENCE = 60
DONE = b"data: [DONE]\n\n"


class Hold:
    """A step: nothing more is said until the client goes away, or the test calls `release`."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    async def wait(self) -> None:
        await until(self._released.is_set, seconds=3600)


class HangUp:
    """A step: the connection is reset."""


Step = bytes | float | Hold | HangUp


@dataclass(frozen=True)
class Script:
    """One response: bytes are written, numbers are pauses in seconds."""

    steps: Sequence[Step]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    raw: bool = False
    """The steps are all there is: no status line, no headers, no chunks."""

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted", "Transfer-Encoding: chunked"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in self.headers.items()), "\r\n"]).encode()


@dataclass
class Received:
    """One request, and when (monotonic) the client closed its connection, where it did so before the script's end."""

    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    closed_at: float | None = None


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """Return one event with one choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"object": "chat.completion.chunk", "choices": [choice], **more})


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def ending(finish: str = "stop", usage: tuple[int, int] | None = (5, 2)) -> list[bytes]:
    """Return what comes after the last delta."""
    counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1]} if usage else None
    return [chunk(finish=finish), *([event({"choices": [], "usage": counted})] if usage else []), DONE]


def deltas(*texts: str) -> list[bytes]:
    return [chunk({"role": "assistant", "content": ""}), *(chunk({"content": text}) for text in texts)]


def reply(*texts: str, usage: tuple[int, int] | None = (5, 2), finish: str = "stop", pause: float = 0) -> Script:
    """Say each text as a delta of its own, `pause` seconds apart."""
    steps = [*deltas(*texts), *ending(finish, usage)]
    return Script([part for step in steps for part in (step, pause)] if pause else steps)


def calling(*calls: tuple[str, dict[str, Any] | str], text: str = "", usage: tuple[int, int] = (5, 2)) -> Script:
    """Ask for tools, `("add", {"a": 1})` each, with the arguments in two pieces; a str is sent as it is."""
    steps = deltas(text) if text else deltas()
    for index, (name, arguments) in enumerate(calls):
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        half = len(written) // 2
        first = {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": written[:half]}}
        steps.append(chunk({"tool_calls": [{"index": index, **first}]}))
        steps.append(chunk({"tool_calls": [{"index": index, "function": {"arguments": written[half:]}}]}))
    return Script([*steps, *ending("tool_calls", usage)])


def refusing(status: int, body: Any = None, **headers: str) -> Script:
    """Answer with an error; `Retry_After="3"` is a header."""
    content = body if isinstance(body, bytes) else json.dumps(body or {"error": {"message": "no"}}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Script([content], status=status, headers={"Content-Type": "application/json", **named})


def broken(*texts: str) -> Script:
    """Reset the connection after some text."""
    return Script([*deltas(*texts), HangUp()])


def holding(*texts: str, hold: Hold | None = None, then: Sequence[str] = ()) -> Script:
    """Say some text, then nothing until the client leaves or `hold` is released; then the rest."""
    return Script([*deltas(*texts), hold or Hold(), *(chunk({"content": text}) for text in then), *ending()])


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what the test waits for didn't happen"
        await asyncio.sleep(0.005)


class Upstream:
    """The server, as an async context manager, or in a thread of its own for tests that block."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts) or [reply("Hello")]
        self.requests: list[Received] = []
        self.connections = 0
        self.url = ""
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def script(self) -> Script:
        return self.scripts[0]

    @script.setter
    def script(self, script: Script) -> None:
        self.scripts = [script]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Serve from a thread until the block ends."""
        ready, over = threading.Event(), Hold()

        async def serve() -> None:
            async with self:
                ready.set()
                await over.wait()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield self
        finally:
            over.release()
            thread.join(PATIENCE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task
        self._handlers.add(task)
        try:
            while received := await read_request(reader, number):
                self.requests.append(received)
                await self._answer(self._next(), received, reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass  # the test is over, or the client left: neither is this server's failure
        finally:
            self._handlers.discard(task)
            writer.transport.abort()

    def _next(self) -> Script:
        return self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]

    async def _answer(
        self, script: Script, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Play the script until its end, or until the client has gone."""
        playing = asyncio.create_task(play(script, writer))
        leaving = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                received.closed_at = time.monotonic()
                raise ConnectionResetError
            await playing
        finally:
            for task in (playing, leaving):
                task.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)


async def read_request(reader: asyncio.StreamReader, connection: int) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(first.split()[1], headers, json.loads(body) if body else None, connection)


async def play(script: Script, writer: asyncio.StreamWriter) -> None:
    if not script.raw:
        writer.write(script.head)
    for step in script.steps:
        match step:
            case bytes():
                writer.write(step if script.raw else b"%x\r\n%b\r\n" % (len(step), step))
                await writer.drain()
            case Hold():
                await step.wait()
            case HangUp():
                # Without lingering a close is a reset.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await leave(writer)
            case _:
                await asyncio.sleep(step)
    if script.raw:
        await leave(writer)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def leave(writer: asyncio.StreamWriter) -> None:
    """End the connection once everything written has left."""
    writer.transport.set_write_buffer_limits(0)
    with suppress(ConnectionError):
        await writer.drain()
    raise ConnectionResetError
