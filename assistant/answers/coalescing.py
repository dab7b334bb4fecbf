"""Fewer token events than a model's deltas, each at most so long."""

import asyncio
from collections.abc import Callable

from assistant.signals import token_sent

# A token leaves at once unless one left less than this many seconds ago.
GAP_SECONDS = 0.025
NEVER = float("-inf")


class Coalescer:
    """Joins text that arrives within 25 ms and splits text that is longer than `chunk_size` code points.

    The text is the same for every chunk size: pieces are only joined and split, in order.
    """

    def __init__(self, *, chunk_size: int, emit: Callable[[str], None]) -> None:
        self._chunk_size = chunk_size
        self._emit = emit
        self._loop = asyncio.get_running_loop()
        self._pending: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._last = NEVER

    def add(self, text: str) -> None:
        if self._timer is not None:
            self._pending.append(text)
            return
        now = self._loop.time()
        wait = self._last + GAP_SECONDS - now
        if wait <= 0:
            self._send(text, now)
        else:
            self._pending.append(text)
            self._timer = self._loop.call_later(wait, self.flush)

    def flush(self) -> None:
        """Send all text now, before another event."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._send("".join(self._pending), self._loop.time())
            self._pending.clear()

    def _send(self, text: str, now: float) -> None:
        if not text:
            return
        if self._last != NEVER:
            token_sent.send_robust(Coalescer, gap=now - self._last)
        self._last = now
        if len(text) <= self._chunk_size:  # nearly always
            self._emit(text)
            return
        for begin in range(0, len(text), self._chunk_size):
            self._emit(text[begin : begin + self._chunk_size])
