"""The end of this process, for whoever answers in it: no new streams from one moment on, no open ones from another."""

from collections.abc import Callable

from wire.errors import WireError

__all__ = ["Stopping", "begun", "over", "refuse"]


class Stopping(WireError):
    """The process takes no new work; another one may."""

    status = 503
    message = "The service is stopping."
    retry_after = 2


class Milestone:
    """What happens once in the life of a process. It comes in the event loop, and so do the calls it makes."""

    def __init__(self) -> None:
        self.has_come = False
        self._waiting: set[Callable[[], None]] = set()

    def come(self) -> None:
        self.has_come = True
        for callback in tuple(self._waiting):
            callback()

    def call(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the moment comes, unless it is forgotten before."""
        self._waiting.add(callback)

    def forget(self, callback: Callable[[], None]) -> None:
        self._waiting.discard(callback)


begun = Milestone()
"""The process was told to stop: what is open may finish."""
over = Milestone()
"""SHUTDOWN_GRACE has passed: what is still open ends. `over.call(callback)` calls back then."""


def refuse() -> None:
    """Raise `Stopping` once the process was told to stop."""
    if begun.has_come:
        raise Stopping
