"""The processes of the service on this machine: each has its own name, and a lock that ends with it."""

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from django.core.files import locks

from assistant.conf import get_settings
from wire.once import once

logger = logging.getLogger(__name__)


class Process:
    """A name that no process had before, and a locked file of that name: the lock ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{socket.gethostname()[:60]}.{os.getpid()}.{secrets.token_hex(4)}"
        self._lock: int | None = None
        try:
            self._lock_file(folder)
        except OSError as error:
            # Without the lock its answers end with their leases, a little later.
            logger.warning("process=%s state=not_locked reason=%s", self.name, error.strerror)

    def _lock_file(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{self.name}.new"
        self._lock = os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600)
        locks.lock(self._lock, locks.LOCK_EX | locks.LOCK_NB)
        os.register_at_fork(after_in_child=self.forget)
        # Under its name it is never seen unlocked.
        draft.rename(lock_file(folder, self.name))

    def forget(self) -> None:
        """In a forked child: leave the lock to the parent, and let it end with it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@once
def process_of(pid: int) -> Process:
    return Process(folder())


def this_process() -> str:
    """Return this process's name."""
    return process_of(os.getpid()).name


def folder() -> Path:
    return get_settings().ASSISTANT_DATA_DIR / "processes"


def lock_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


@contextmanager
def dead_processes(folder: Path) -> Iterator[list[str]]:
    """Yield the names of processes of this machine that have died; they are forgotten after the block."""
    with ExitStack() as stack:
        dead = [path for path in folder.glob("*.lock") if is_free(path, stack)]
        yield [path.stem for path in dead]
        for path in dead:
            path.unlink(missing_ok=True)


def is_free(path: Path, stack: ExitStack) -> bool:
    """Tell whether no process has the lock; it is then held until the stack ends."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError:
        return False
    return locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)
