"""A model server that costs little: fixed bytes, written by bare asyncio. `python -m bench.upstream PORT`.

The prompt says what it answers. `say 8000`: as many deltas, 20 a packet, as fast as they are read; `say 20 slowly`: one
each 50 ms. `say paced`: a first delta, then one each 50 ms while the stream is among those that `GET /pace/COUNT` has
set going (the oldest first); its text is the moment of CLOCK_MONOTONIC, in microseconds, at which it left.
"""

import asyncio
import gc
import json
import re
import sys
import time
from typing import Any

import uvloop

PACE_SECONDS = 0.05
SLOTS = 50

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
SAY = re.compile(rb"say (\d+|paced)( slowly)?")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
CLOSE = b"Connection: close"
PACE = re.compile(rb"GET /pace/(\d+) ")


def chunk(choice: dict[str, object]) -> bytes:
    """Return one delta as OpenAI's servers write it."""
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "bench",
        "choices": [{"index": 0, "finish_reason": None, **choice}],
    }
    data = b"data: " + json.dumps(event).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


# Each its own: LiteLLM takes a hundred equal ones for a model that has lost its way.
DELTAS = [chunk({"delta": {"content": f"wor#{letter} "}}) for letter in "abcdefghijklmnopqrst"]
PACKET = b"".join(DELTAS)
STAMPED = chunk({"delta": {"content": f"t{0:013} "}}).replace(f"{0:013}".encode(), b"%013d")
END = chunk({"delta": {}, "finish_reason": "stop"}) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


def stamped() -> bytes:
    return STAMPED % (time.monotonic_ns() // 1_000)


class Pacer:
    """Writes one delta to each of the first `going` streams each 50 ms, evenly spread."""

    def __init__(self) -> None:
        self.streams: list[Any] = []
        self.going = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        step = PACE_SECONDS / SLOTS
        due = loop.time()
        slot = 0
        while True:
            due += step
            slot = (slot + 1) % SLOTS
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.going:
                delta = stamped()
                for stream in self.streams[slot : self.going : SLOTS]:
                    stream.write(delta)


pacer = Pacer()


class Answering(asyncio.Protocol):
    """One connection of the relay's."""

    transport: Any  # uvloop's is no subclass of asyncio's

    def __init__(self) -> None:
        self.received = b""
        self.left = 0
        self.may_write = True
        self.closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.may_write = False
        if self.transport in pacer.streams:
            pacer.streams.remove(self.transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return
        if asked := PACE.match(head):
            pacer.going = int(asked[1])
            self.received = b""
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif (length := LENGTH.search(head)) and len(body) >= int(length[1]):
            self.received = b""
            self.closes = CLOSE in head
            self.answer(body)

    def answer(self, body: bytes) -> None:
        said = SAY.search(body)
        assert said, body
        self.transport.write(HEAD)
        if said[1] == b"paced":
            self.transport.write(stamped())
            pacer.streams.append(self.transport)
        else:
            self.left = int(said[1])
            self.say_slowly() if said[2] else self.say()

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        self.may_write = True
        if self.left:
            self.say()

    def say(self) -> None:
        while self.may_write and self.left:
            count = min(self.left, len(DELTAS))
            self.left -= count
            self.transport.write(PACKET if count == len(DELTAS) else b"".join(DELTAS[:count]))
            if not self.left:
                self.end()

    def say_slowly(self) -> None:
        self.transport.write(DELTAS[0])
        self.left -= 1
        loop = asyncio.get_running_loop()
        loop.call_later(PACE_SECONDS, self.say_slowly if self.left else self.end)

    def end(self) -> None:
        self.transport.write(END)
        if self.closes:
            self.transport.close()


async def main() -> None:
    gc.disable()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await asyncio.gather(server.serve_forever(), pacer.run())


if __name__ == "__main__":
    uvloop.run(main())
