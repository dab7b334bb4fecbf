"""The machine's one llama.cpp for a file of weights: started by the process that needs it first, used by all."""

import asyncio
import atexit
import logging
import os
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from assistant.conf import get_settings
from assistant.errors import ModelError, ModelUnreachable
from assistant.providers.claim import Address, Claim
from assistant.providers.llama import LlamaError, LlamaServer

logger = logging.getLogger(__name__)

# How long another process may take to load the model.
LOADING_SECONDS = 60
LOOK_SECONDS = 0.05
# A file that was named was looked for when it was; these are fetched.
MISSING = "The weights of local:smollm2 are missing: run `manage.py prepare`."


class SharedLlama:
    """Finds the server, or starts it. The methods that block are for one thread at a time; `afind` sees to that."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self._claim = Claim(get_settings().ASSISTANT_DATA_DIR, weights)
        self._server: LlamaServer | None = None
        self._thread = ThreadPoolExecutor(1, "local-model")
        everyone.add(self)

    async def afind(self) -> Address:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.find)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self.close)

    def find(self) -> Address:
        """Return where the server is. Raises `ModelError` where there is none and none can be started."""
        end = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < end:
            if address := self.look():
                return address
            time.sleep(LOOK_SECONDS)
        raise ModelUnreachable("The local model doesn't get ready.")

    def look(self) -> Address | None:
        """Return where the server is, if it answers: this process's own, started if need be, or another process's."""
        address = self._hold() or self._claim.read()
        return address if address and address.answers else None

    def close(self) -> None:
        """End this process's server, if it has one."""
        if self._server:
            self._server.close()
            self._server = None
        self._claim.release()

    def forget(self) -> None:
        """In a forked child: leave everything to the parent. Threads don't come along."""
        self._thread = ThreadPoolExecutor(1, "local-model")
        if self._server:
            self._server.forget()
            self._server = None
        self._claim.forget()

    def _hold(self) -> Address | None:
        """Return the address of this process's own server; None where another has the claim."""
        try:
            if self._server is None and not self._claim.take():
                return None
            return self._own()
        except ModelError:
            self.close()
            raise
        except (LlamaError, OSError) as error:
            self.close()
            logger.exception("weights=%s state=not_started", self.weights)
            raise ModelError("The local model can't be started.") from error

    def _own(self) -> Address:
        if self._server and not self._server.is_running:
            self._server.close()
            self._server = None
        if self._server is None:
            self._server = self._start()
            self._claim.publish(Address(self._server.url, self._server.key, os.getpid()))
        return Address(self._server.url, self._server.key, os.getpid())

    def _start(self) -> LlamaServer:
        if not self.weights.is_file():
            raise ModelError(MISSING)
        began = time.monotonic()
        server = LlamaServer(self.weights)
        logger.info("weights=%s state=started seconds=%.2f", self.weights, time.monotonic() - began)
        return server


everyone: weakref.WeakSet[SharedLlama] = weakref.WeakSet()


def forget_all() -> None:
    for each in everyone:
        each.forget()


def close_all() -> None:
    for each in everyone:
        each.close()


os.register_at_fork(after_in_child=forget_all)
atexit.register(close_all)
