"""The database connections of threads that carry out items, kept from one item to the next.

Django closes a thread's connections after each request, unless CONN_MAX_AGE says otherwise. To open one takes longer
than an item that does little.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from wire.threads import drop


class Place(threading.local):
    keeps = False


place = Place()


class Kept:
    """Connections that threads keep open from item to item, until somebody closes those that nobody uses."""

    def __init__(self) -> None:
        self._unused: set[Any] = set()
        self._is_over = False
        # Held while connections are closed, so that no thread begins to use one of them.
        self._closing = threading.Lock()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep this thread's connections open in the block, and after it until `close`."""
        with self._closing:
            self._unused.difference_update(opened())
        place.keeps = True
        try:
            yield
        finally:
            place.keeps = False
            self._unused.update(opened())
            if self._is_over:
                self.close()

    def close(self, *, for_good: bool = False) -> None:
        """Close what isn't used now, and `for_good` what is as soon as it isn't. May be called from any thread."""
        self._is_over = self._is_over or for_good
        with self._closing:
            while self._unused:
                connection = self._unused.pop()
                connection.inc_thread_sharing()
                connection.close()
                connection.dec_thread_sharing()


# Those of the threads for items that somebody waits for.
kept = Kept()


def hand_on() -> None:
    """Leave this thread's connections as the next item may find them; open, where the thread keeps them."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:  # a view has never left it, and Django closes no such connection
            drop(connection)
    if place.keeps:
        for connection in opened():
            connection.close_at = None


def opened() -> list[Any]:
    """Return this thread's connections that would be closed after a request."""
    return [each for each in connections.all(initialized_only=True) if each.settings_dict["CONN_MAX_AGE"] == 0]
