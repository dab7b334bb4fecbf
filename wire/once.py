"""Functions that run once in a process, however many threads call them at the same time.

`functools.cache` isn't enough: it runs its function again for each thread that calls before the first call has ended.
"""

import os
import threading
from collections.abc import Callable
from functools import cache, update_wrapper
from typing import Any


class Once[**P, T]:
    """A function that runs once for the same arguments; other threads wait for its result."""

    def __init__(self, make: Callable[P, T]) -> None:
        update_wrapper(self, make)
        self._make: Any = cache(make)
        self.cache_clear = self._make.cache_clear
        self._renew_lock()
        # A forked child inherits the lock, perhaps held by a thread that it doesn't have.
        os.register_at_fork(after_in_child=self._renew_lock)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            made: T = self._make(*args, **kwargs)
        return made

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


def once[**P, T](make: Callable[P, T]) -> Once[P, T]:
    """Decorate a function that makes an object of which the process has one."""
    return Once(make)
