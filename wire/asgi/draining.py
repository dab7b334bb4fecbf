"""Draining: while the process stops, it accepts no new streams; when the grace period ends, open ones end too."""

from collections.abc import Callable

from wire.errors import WireError

__all__ = ["Stopping", "expired", "refuse", "started"]


class Stopping(WireError):
    """The process accepts no new work; another process may."""

    status = 503
    message = "The service is stopping."
    retry_after = 2


class ShutdownEvent:
    """An event that is set once in the life of a process, in its event loop. It calls callbacks there."""

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: set[Callable[[], None]] = set()

    def set(self) -> None:
        self.is_set = True
        for callback in tuple(self._callbacks):
            callback()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the event is set, unless it is removed before."""
        self._callbacks.add(callback)

    def remove_callback(self, callback: Callable[[], None]) -> None:
        self._callbacks.discard(callback)


started = ShutdownEvent()
"""The process was told to stop: open streams may finish."""
expired = ShutdownEvent()
"""SHUTDOWN_GRACE has passed: open streams send their last event. `expired.add_callback(callback)` calls back then."""


def refuse() -> None:
    """Raise `Stopping` once the process was told to stop."""
    if started.is_set:
        raise Stopping
