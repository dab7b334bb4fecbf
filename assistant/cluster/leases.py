"""Who writes which answer: a process holds its answers on short leases, and ends those of processes that are gone."""

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from django.core.files import locks

from assistant.cluster import sharing
from assistant.conf import get_settings
from assistant.models import LEASE, Message, MessageQuerySet
from assistant.signals import answer_ended
from assistant.threads import given_back
from wire.once import once

logger = logging.getLogger(__name__)


class Held(Protocol):
    """An answer that this process writes."""

    @property
    def message(self) -> Message: ...

    def interrupt(self) -> None: ...


class Process:
    """A name that no process had before, and a locked file of that name: the lock ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{socket.gethostname()[:60]}.{os.getpid()}.{secrets.token_hex(4)}"
        self._lock: int | None = None
        try:
            self._take(folder)
        except OSError as error:
            # Without the lock its answers end with their leases, a little later.
            logger.warning("process=%s state=not_locked reason=%s", self.name, error.strerror)

    def _take(self, folder: Path) -> None:
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
def gone(folder: Path) -> Iterator[list[str]]:
    """Hold the names of processes of this machine that have died; afterwards they are forgotten."""
    with ExitStack() as stack:
        dead = [path for path in folder.glob("*.lock") if is_free(path, stack)]
        yield [path.stem for path in dead]
        for path in dead:
            path.unlink(missing_ok=True)


def is_free(path: Path, stack: ExitStack) -> bool:
    """Tell whether nobody has the lock; it is then held until the stack ends."""
    try:
        file = stack.enter_context(path.open("rb"))
    except OSError:
        return False
    return locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)


def sweep() -> int:
    """End every answer whose process is gone; return how many there were."""
    with gone(folder()) as dead:
        return interrupt(Message.objects.all(), dead)


def interrupt(messages: MessageQuerySet, dead: Sequence[str] = ()) -> int:
    """End those of the answers whose lease is over, or whose process is one of the dead; return how many there were."""
    return sum(end(message, dead) for message in messages.abandoned(dead))


def end(message: Message, dead: Sequence[str]) -> bool:
    # Taken over first: of several processes one does it, and the one that was thought dead no longer can.
    if not Message.objects.filter(pk=message.pk).abandoned(dead).hand_over(this_process()):
        return False
    message.process = this_process()
    message.take_events(sharing.sealed_events(message))
    message.interrupt()
    logger.warning("message=%s state=%s", message.pk, message.status)
    answer_ended.send_robust(Keeper, message=message, error=None)
    return True


class Keeper:
    """Renews the leases of this process's answers, and ends the answers of processes that are gone.

    A thread: one for all event loops of a WSGI process, and a busy loop loses no lease. It ends when nothing runs,
    unless it is held.
    """

    def __init__(self, running: Callable[[], Sequence[Held]]) -> None:
        self._running = running
        self._held = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self) -> None:
        """Keep watch until `release`, whether anything runs or not."""
        self._held = True
        self.watch()

    def release(self) -> None:
        self._held = False
        self._wake.set()

    def watch(self) -> None:
        """Keep watch as long as something runs."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="assistant-leases", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        while self._is_wanted():
            given_back(self._look_after)
            self._wake.wait(LEASE.total_seconds() / 3)
            self._wake.clear()

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._held or self._running():
                return True
            self._thread = None
            return False

    def _look_after(self) -> None:
        try:
            self.renew()
            sweep()
        except Exception:  # the database may be gone for a while
            logger.exception("leases=%s state=not_renewed", this_process())

    def renew(self) -> None:
        """Renew all leases in one UPDATE; an answer that another process took over ends here."""
        held = {run.message.pk: run for run in self._running()}
        mine = Message.objects.filter(pk__in=held).running(this_process())
        if held and mine.renew() < len(held):
            for pk in held.keys() - set(mine.values_list("pk", flat=True)):
                held[pk].interrupt()
