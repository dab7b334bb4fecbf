"""Read the bytes of a response as they arrive, within idle timeouts."""

import asyncio
from contextlib import suppress

from aiohttp import ClientError, ClientResponse

from assistant.errors import ModelTimeout
from assistant.providers.upstream_error import model_error

# Decoding a larger block would keep the loop's other tasks waiting.
BLOCK_BYTES = 2048
# The rest after the last event arrives at once, or the connection isn't worth keeping.
DRAIN_SECONDS = 0.1


class ResponseReader:
    """Reads blocks, and closes the response when the model is silent for too long during a read.

    One timer serves the whole stream: a timer for each block would cost as much as decoding it. `deadline` (the loop's
    time) bounds the wait for the first activity of the model, `idle_timeout` (seconds) the wait for each later one.
    """

    def __init__(self, response: ClientResponse, *, deadline: float, idle_timeout: float) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._idle_timeout = idle_timeout
        self._is_active = False
        self._waiting = False
        self._expired = False
        self._read = 0
        self._schedule_check(deadline)

    async def next(self) -> bytes:
        """Return the next block, empty at the end. Raises `ModelTimeout`, or `ModelError` if the server hung up."""
        if self._is_active:
            self._is_active = False
            self._deadline = self._loop.time() + self._idle_timeout
        if self._read < self._response.content.total_bytes:  # more is buffered: let the loop's other tasks run first
            await asyncio.sleep(0)
        self._waiting = True
        try:
            block = await self._response.content.read(BLOCK_BYTES)
            self._read += len(block)
            return block
        except (ClientError, OSError) as error:
            if self._expired:
                raise ModelTimeout from None
            raise model_error("The model's server hung up.", retryable=True) from error
        finally:
            self._waiting = False

    def note_activity(self) -> None:
        """Restart the idle timeout with the next read; the time until then belongs to the caller."""
        self._is_active = True

    async def drain(self) -> None:
        """Read the response to its end, so that the connection can be reused."""
        if not self._response.content.at_eof():
            with suppress(ClientError, OSError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    while await self._response.content.readany():
                        pass

    def close(self) -> None:
        """Close the connection, unless the response has been read to its end."""
        self._timer.cancel()
        self._response.close()

    def _check_deadline(self) -> None:
        if self._waiting and self._loop.time() >= self._deadline:
            self._expired = True
            self._response.close()
        else:
            self._schedule_check(self._deadline)

    def _schedule_check(self, moment: float) -> None:
        """Check the deadline at a moment, or sooner: a shorter timeout may apply by then."""
        soonest = self._loop.time() + self._idle_timeout
        self._timer = self._loop.call_at(
            min(moment, soonest) if moment > self._loop.time() else soonest, self._check_deadline
        )
