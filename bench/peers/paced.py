"""Tokens that need no model's server: one each 50 ms, whose text is the moment at which it was due."""

import asyncio
import random
import time

PACE_SECONDS = 0.05


class Pacer:
    """Says how many of the streams are going, the oldest first; the others have had one token."""

    def __init__(self) -> None:
        self.begun = self.going = 0
        self.changed = asyncio.Event()

    def pace(self, count: int) -> None:
        self.going = count
        self.changed.set()
        self.changed = asyncio.Event()


class Stream:
    """The tokens of one answer, without an end; a reader that is late makes none of them later."""

    def __init__(self) -> None:
        self.number, self.due = pacer.begun, time.monotonic()
        self.is_new = True
        pacer.begun += 1

    async def next(self) -> str:
        """Return microseconds of CLOCK_MONOTONIC, once that moment has come; the first has."""
        if self.is_new:
            self.is_new = False
        else:
            await self.wait()
        return f"t{int(self.due * 1e6):013} "

    async def wait(self) -> None:
        self.due += PACE_SECONDS
        while self.number >= pacer.going:
            await pacer.changed.wait()
            self.due = time.monotonic() + PACE_SECONDS * random.random()  # spreads them
        await asyncio.sleep(max(0.0, self.due - time.monotonic()))


pacer = Pacer()
