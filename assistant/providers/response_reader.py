"""The bytes of a response as they arrive, within limits of silence."""

import asyncio
from contextlib import suppress

from aiohttp import ClientError, ClientResponse

from assistant.errors import ModelTimeout
from assistant.providers.upstream_error import failed

# More at once would keep the loop's other tasks waiting while it is decoded.
BLOCK_BYTES = 2048
# What comes after the last event comes at once, or the connection isn't worth keeping.
DRAIN_SECONDS = 0.1


class Blocks:
    """Reads blocks, and closes the response when the model is silent for too long while somebody waits for it.

    One timer looks after the whole stream: one a block would cost as much as decoding it. `deadline` (the loop's time)
    is for the first sign of the model; `idle_timeout` (seconds) for each one after it.
    """

    def __init__(self, response: ClientResponse, *, deadline: float, idle_timeout: float) -> None:
        self._response = response
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._idle_timeout = idle_timeout
        self._heard = False
        self._waiting = False
        self._expired = False
        self._read = 0
        self._look_again(deadline)

    async def next(self) -> bytes:
        """Return the next block, empty at the end. Raises `ModelTimeout`, or `ModelError` where the server hung up."""
        if self._heard:
            self._heard = False
            self._deadline = self._loop.time() + self._idle_timeout
        if self._read < self._response.content.total_bytes:  # there is more: the loop's other tasks come first
            await asyncio.sleep(0)
        self._waiting = True
        try:
            block = await self._response.content.read(BLOCK_BYTES)
            self._read += len(block)
            return block
        except (ClientError, OSError) as error:
            if self._expired:
                raise ModelTimeout from None
            raise failed("The model's server hung up.", retryable=True) from error
        finally:
            self._waiting = False

    def heard(self) -> None:
        """Start the silence anew with the next wait; the time in between is the caller's."""
        self._heard = True

    async def drain(self) -> None:
        """Read the end of the response, after which the connection serves another call."""
        if not self._response.content.at_eof():
            with suppress(ClientError, OSError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    while await self._response.content.readany():
                        pass

    def close(self) -> None:
        """Close the connection, unless the response has been read to its end."""
        self._timer.cancel()
        self._response.close()

    def _look(self) -> None:
        if self._waiting and self._loop.time() >= self._deadline:
            self._expired = True
            self._response.close()
        else:
            self._look_again(self._deadline)

    def _look_again(self, moment: float) -> None:
        """Look at a moment, or sooner: a shorter limit may apply by then."""
        soonest = self._loop.time() + self._idle_timeout
        self._timer = self._loop.call_at(min(moment, soonest) if moment > self._loop.time() else soonest, self._look)
