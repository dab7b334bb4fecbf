"""One local model a machine: which process holds it, and where it answers."""

import hashlib
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from django.core.files import locks

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
