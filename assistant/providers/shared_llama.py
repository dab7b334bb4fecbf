"""One llama.cpp per machine and file of weights: the first process that needs it starts it, and all use it."""

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
POLL_SECONDS = 0.05
# Only the weights of smollm2 are fetched; the path of another file was checked before.
MISSING = "The weights of local:smollm2 are missing: run `manage.py prepare`."
# How long a server may take to answer a health check.
HEALTH_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Address:
    """The URL of a model's server, its key, and the process that started it."""

    url: str
    key: str
    pid: int

    @property
    def is_healthy(self) -> bool:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=HEALTH_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


class Claim:
    """A lock, released when its process ends, and a file beside it with the holder's address.

    File names contain the host name: containers may share a folder, but not the loopback interface.
    """

    def __init__(self, folder: Path, weights: Path) -> None:
        digest = hashlib.sha256(f"{socket.gethostname()}:{weights.resolve()}".encode()).hexdigest()
        self._lock_path = folder / f"local-model-{digest[:16]}.lock"
        self._address_path = self._lock_path.with_suffix(".json")
        self._lock: IO[bytes] | None = None

    def take(self) -> bool:
        """Take the claim unless another process or instance has it. Raises `OSError`."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._lock_path.open("ab")
        if not locks.lock(lock, locks.LOCK_EX | locks.LOCK_NB):
            lock.close()
            return False
        self._lock = lock
        # The address of a dead holder: another program may listen on its port.
        self._address_path.unlink(missing_ok=True)
        return True

    def publish(self, address: Address) -> None:
        """Write the address for the other processes of this user."""
        draft = self._address_path.with_suffix(f".{address.pid}")
        draft.unlink(missing_ok=True)
        with open(draft, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            json.dump(asdict(address), file)
        os.replace(draft, self._address_path)

    def read(self) -> Address | None:
        """Return the holder's address, None until it is published."""
        try:
            return Address(**json.loads(self._address_path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def release(self) -> None:
        if self._lock:
            with suppress(OSError):
                self._address_path.unlink(missing_ok=True)
            self.detach()

    def detach(self) -> None:
        """Close the lock's file; in a forked child this leaves the claim with the parent."""
        if self._lock:
            self._lock.close()
            self._lock = None


class SharedLlama:
    """Finds the server, or starts it. The sync methods are for one thread at a time, which `afind` ensures."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights
        self._claim = Claim(get_settings().ASSISTANT_DATA_DIR, weights)
        self._server: LlamaServer | None = None
        self._thread = ThreadPoolExecutor(1, "local-model")
        instances.add(self)

    async def afind(self) -> Address:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.find)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self.close)

    def find(self) -> Address:
        """Return the server's address. Raises `ModelError` if no server runs and none can be started."""
        end = time.monotonic() + LOADING_SECONDS
        while time.monotonic() < end:
            if address := self.poll():
                return address
            time.sleep(POLL_SECONDS)
        raise ModelUnreachable("The local model isn't ready: loading its weights took too long.")

    def poll(self) -> Address | None:
        """Return the address of a healthy server: this process's own, started if needed, or another process's."""
        address = self._acquire() or self._claim.read()
        return address if address and address.is_healthy else None

    def close(self) -> None:
        """End this process's server, if it has one."""
        if self._server:
            self._server.close()
            self._server = None
        self._claim.release()

    def detach(self) -> None:
        """In a forked child: leave the server and the claim to the parent. Threads aren't inherited."""
        self._thread = ThreadPoolExecutor(1, "local-model")
        if self._server:
            self._server.detach()
            self._server = None
        self._claim.detach()

    def _acquire(self) -> Address | None:
        """Return the address of this process's own server; None if another process has the claim."""
        try:
            if self._server is None and not self._claim.take():
                return None
            return self._ensure_server()
        except ModelError:
            self.close()
            raise
        except (LlamaError, OSError) as error:
            self.close()
            logger.exception("weights=%s state=not_started", self.weights)
            raise ModelError("The local model can't be started.") from error

    def _ensure_server(self) -> Address:
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


instances: weakref.WeakSet[SharedLlama] = weakref.WeakSet()


def detach_all() -> None:
    for each in instances:
        each.detach()


def close_all() -> None:
    for each in instances:
        each.close()


os.register_at_fork(after_in_child=detach_all)
atexit.register(close_all)
