"""The machine's one llama.cpp for a file of weights: started by the process that needs it first, used by all."""

import asyncio
import atexit
import hashlib
import json
import logging
import os
import socket
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from django.core.files import locks

from assistant.conf import get_settings
from assistant.errors import ModelError, ModelUnreachable
from assistant.providers.llama import LlamaError, LlamaServer

logger = logging.getLogger(__name__)

# How long another process may take to load the model.
LOADING_SECONDS = 60
LOOK_SECONDS = 0.05
# A file that was named was looked for when it was; these are fetched.
MISSING = "The weights of local:smollm2 are missing: run `manage.py prepare`."
# How long a server that is looked at may take to say that it is well.
HEALTH_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model's server listens, the key that it wants, and the process that started it."""

    url: str
    key: str
    pid: int

    @property
    def answers(self) -> bool:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=HEALTH_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


class Claim:
    """A lock, which ends with the process that took it, and beside it a file with the holder's address.

    The host's name is part of their names: containers may share a folder, but not the loopback interface.
    """

    def __init__(self, folder: Path, weights: Path) -> None:
        digest = hashlib.sha256(f"{socket.gethostname()}:{weights.resolve()}".encode()).hexdigest()
        self._lock_path = folder / f"local-model-{digest[:16]}.lock"
        self._address_path = self._lock_path.with_suffix(".json")
        self._lock: IO[bytes] | None = None

    def take(self) -> bool:
        """Take the claim unless another process has it, or this one by another way. Raises `OSError`."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path.open("ab")
        if not locks.lock(lock, locks.LOCK_EX | locks.LOCK_NB):
            lock.close()
            return False
        self._lock = lock
        # The address of a holder that died: its port may be anybody's now.
        self._address_path.unlink(missing_ok=True)
        return True

    def publish(self, address: Address) -> None:
        """Tell the other processes of this user where to go."""
        draft = self._address_path.with_suffix(f".{address.pid}")
        draft.unlink(missing_ok=True)
        with open(draft, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(asdict(address), file)
        os.replace(draft, self._address_path)

    def read(self) -> Address | None:
        """Return what the holder published, None while it hasn't yet."""
        try:
            return Address(**json.loads(self._address_path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def release(self) -> None:
        if self._lock:
            with suppress(OSError):
                self._address_path.unlink(missing_ok=True)
            self.forget()

    def forget(self) -> None:
        """Close the lock's file: in a forked child that leaves the claim with the parent, and lets it end with it."""
        if self._lock:
            self._lock.close()
            self._lock = None


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
