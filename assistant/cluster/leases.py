"""Leases: a process holds its answers for a short time each, and ends those of processes that are gone."""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from assistant.cluster import sharing
from assistant.cluster.processes import dead_processes, folder, this_process
from assistant.models import Message, MessageQuerySet
from assistant.models.conversations import LEASE
from assistant.signals import answer_ended
from wire.asgi.threads import give_connections_back

logger = logging.getLogger(__name__)


class Held(Protocol):
    """An answer that this process writes."""

    @property
    def message(self) -> Message: ...

    def interrupt(self) -> None: ...


def sweep() -> int:
    """End every answer whose process is gone; return how many there were."""
    with dead_processes(folder()) as dead:
        return interrupt(Message.objects.all(), dead)


def interrupt(messages: MessageQuerySet, dead: Sequence[str] = ()) -> int:
    """End those of the answers whose lease is over, or whose process is one of the dead; return how many there were."""
    return sum(end(message, dead) for message in messages.abandoned(dead))


def end(message: Message, dead: Sequence[str]) -> bool:
    # Taken over first: of several processes only one can, and the one that was thought dead no longer writes.
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

    It is a thread: one for all event loops of a WSGI process, and a busy loop loses no lease. It ends when no answer
    runs, unless it is held.
    """

    def __init__(self, running: Callable[[], Sequence[Held]]) -> None:
        self._running = running
        self._is_held = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def hold(self) -> None:
        """Keep watch until `release`, whether an answer runs or not."""
        self._is_held = True
        self.watch()

    def release(self) -> None:
        self._is_held = False
        self._wake.set()

    def watch(self) -> None:
        """Keep watch as long as an answer runs."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="assistant-leases", daemon=True)
                self._thread.start()

    def _keep(self) -> None:
        while self._is_wanted():
            self._renew_and_sweep()
            give_connections_back()
            self._wake.wait(LEASE.total_seconds() / 3)
            self._wake.clear()

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._is_held or self._running():
                return True
            self._thread = None
            return False

    def _renew_and_sweep(self) -> None:
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
