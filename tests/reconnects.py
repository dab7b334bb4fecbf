"""Read one answer over many connections, cut at random points, as clients on bad networks do."""

import asyncio
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from random import Random, randrange
from typing import Any

import aiohttp

FRAME = re.compile(rb"id: (\d+)\ndata: [^\n]+\n\n")
LAST = re.compile(rb'data: \{"type": "(end|error)"')


@contextmanager
def seeded() -> Iterator[Random]:
    """Print the seed of a test that fails; SEED=... repeats it."""
    seed = int(os.environ.get("SEED", randrange(1 << 32)))
    try:
        yield Random(seed)
    except BaseException:
        print(f"SEED={seed}")  # noqa: T201  # to repeat the failure
        raise


class Received:
    """What a client has of a stream: whole frames, and the id of the last one."""

    def __init__(self) -> None:
        self.stream = b""
        self.cursor = 0
        self.cuts = 0
        self._rest = b""

    @property
    def has_ended(self) -> bool:
        return bool(LAST.search(self.stream))

    def take(self, part: bytes) -> None:
        self._rest += part
        end = 0
        for frame in FRAME.finditer(self._rest):
            self.stream += frame[0]
            self.cursor = int(frame[1])
            end = frame.end()
        self._rest = self._rest[end:]

    def cut(self) -> None:
        """Lose what isn't a whole frame yet."""
        self.cuts += 1
        assert self.cuts < 2_000, "the stream doesn't come to its end"
        self._rest = b""


async def read_in_pieces(http: aiohttp.ClientSession, urls: Sequence[str], message_id: str, random: Random) -> Received:
    """Read an answer to its end, each piece from any of the servers, with Last-Event-ID between them."""
    received = Received()
    while not received.has_ended:
        where = f"{random.choice(urls)}/api/agent/messages/{message_id}/stream"
        async with http.get(where, headers={"Last-Event-ID": str(received.cursor)}) as response:
            assert response.status == 200, await response.text()
            await read_piece(response, received, random)
            response.close()
        received.cut()
    return received


async def read_piece(response: Any, received: Received, random: Random) -> None:
    """Read some bytes for some time, and disconnect at any point."""
    with suppress(TimeoutError):
        async with asyncio.timeout(random.choice([0.02, 0.2, 5])):
            for _ in range(random.randrange(5)):
                received.take(await response.content.read(random.choice([1, 20, 150, 500])))
                if received.has_ended:
                    return
