"""The database connections of a thread that carries out items, kept from one item to the next.

Django closes a thread's connections after each request, unless CONN_MAX_AGE says otherwise. To open one takes longer
than an item that does little.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.db import connections


class Place(threading.local):
    keeps = False


place = Place()


@contextmanager
def kept() -> Iterator[None]:
    """Keep this thread's connections open from item to item; when the block ends, Django's rules hold again."""
    place.keeps = True
    try:
        yield
    finally:
        place.keeps = False
        for connection in opened():
            connection.close_at = 0.0
            connection.close_if_unusable_or_obsolete()


class Kept:
    """Connections that threads keep open from item to item, until somebody closes those that nobody uses."""

    def __init__(self) -> None:
        self._unused: set[Any] = set()
        self._is_over = False

    @contextmanager
    def for_an_item(self) -> Iterator[None]:
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
        with suppress(KeyError):  # that was the last
            while connection := self._unused.pop():
                connection.inc_thread_sharing()
                connection.close()
                connection.dec_thread_sharing()


def keep() -> None:
    """Have Django leave what is usable open, where the thread keeps connections."""
    if place.keeps:
        for connection in opened():
            connection.close_at = None


def opened() -> list[Any]:
    """Return this thread's connections that would be closed after a request."""
    return [each for each in connections.all(initialized_only=True) if each.settings_dict["CONN_MAX_AGE"] == 0]
