"""A TCP proxy between a browser and the service, which a test disconnects."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

from tests.upstream import PATIENCE


class Proxy:
    """Forwards bytes to the service at `url` and back, from an address of its own."""

    def __init__(self, url: str) -> None:
        self._port = urlsplit(url).port
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Forward in a thread until the block ends."""
        ready = threading.Event()
        thread = threading.Thread(target=asyncio.run, args=(self._serve(ready),))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield self
        finally:
            self.cut()
            self._loop.call_soon_threadsafe(self._over.set)
            thread.join(PATIENCE)

    def cut(self) -> None:
        """Break every connection and take no new one."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._break)

    def restore(self) -> None:
        self._is_cut = False

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self._connect, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await self._over.wait()

    def _break(self) -> None:
        for end in self._ends:
            end.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        ends = {writer, far_writer}
        self._ends |= ends
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))
        self._ends -= ends


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()
    writer.close()
