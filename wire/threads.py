"""The threads in which Django runs the sync code of requests under ASGI, lent to one request after the other.

Django starts one for each request, and in it the database connection is opened anew: that took as long as all that a
view does that looks up an API key. Here a thread keeps its connections for the next request, for a moment.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.core.signals import request_finished
from django.db import connections
from django.db.backends.signals import connection_created
from django.dispatch import receiver

# Seconds that the connections of a thread stay open that no request has, and that the thread stays itself.
IDLE = 0.25
LIFE = 5.0
# Seconds that a connection is used at most.
AGE = 60.0


class Here(threading.local):
    """Whether this thread keeps its connections for who comes next."""

    keeps = False


here = Here()


def keep_here() -> None:
    here.keeps = True


class KeepingThread(ThreadPoolExecutor):
    """One thread, which keeps its connections. `used_at` is the monotonic moment at which it was used last."""

    def __init__(self, name: str) -> None:
        super().__init__(1, thread_name_prefix=name, initializer=keep_here)
        self.used_at = 0.0
        self.is_connected = False
        self._last: Future[Any] | None = None

    def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self._last = done = super().submit(work, *args, **kwargs)
        self.is_connected = True
        return done

    @property
    def is_free(self) -> bool:
        return self._last is None or self._last.done()

    def disconnect(self) -> None:
        if self.is_connected:
            self.submit(give_connections_back)
            self.is_connected = False

    def end(self) -> None:
        """End the thread once it has done what it is at."""
        if self.is_connected:
            self.submit(connections.close_all)
        self.shutdown(wait=False)


class Threads:
    """Those of one server. To be used in its event loop."""

    def __init__(self) -> None:
        # In the order in which they were used.
        self._idle: deque[KeepingThread] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def lend(self) -> ThreadSensitiveContext:
        """Return what a request's sync code finds its thread by; it is to be taken back."""
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = self._idle.pop() if self._idle else KeepingThread("request")
        return context

    def take_back(self, context: ThreadSensitiveContext) -> None:
        """Have the thread back, unless it is still at something: then it ends with it."""
        thread = SyncToAsync.context_to_thread_executor.pop(context, None)
        if not isinstance(thread, KeepingThread):
            return
        if not thread.is_free:
            thread.end()
            return
        thread.used_at = time.monotonic()
        self._idle.append(thread)
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop = loop
            loop.call_later(IDLE, self._sweep)

    def _sweep(self) -> None:
        """Close what hasn't been used for a while."""
        now = time.monotonic()
        while self._idle and self._idle[0].used_at + LIFE < now:
            self._idle.popleft().end()
        for thread in self._idle:
            if thread.used_at + IDLE > now:
                break
            thread.disconnect()
        if self._idle and self._loop:
            self._loop.call_later(IDLE, self._sweep)
        else:
            self._loop = None


class Pool(Executor):
    """A few threads, each with its connections kept from one piece of work to the next. May be used from any thread."""

    def __init__(self, size: int, name: str) -> None:
        # In the order in which they were used; the last one is the next, so that as few as it takes have a connection.
        self._idle = [KeepingThread(name) for _ in range(size)]
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        with self._lock:
            self._waiting.append((done, partial(work, *args, **kwargs)))
            if self._idle:
                thread = self._idle.pop()
                thread.submit(self._work, thread)
        return done

    def disconnect(self) -> None:
        """Close the connections of those that do nothing."""
        with self._lock:
            closed = [thread.submit(connections.close_all) for thread in self._idle if thread.is_connected]
        wait(closed)

    def _work(self, thread: KeepingThread) -> None:
        """Do what waits until nothing does."""
        while job := self._next(thread):
            done, work = job
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(work())
                except BaseException as error:  # it is raised where the work comes from
                    done.set_exception(error)
            del job, done, work

    def _next(self, thread: KeepingThread) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            thread.used_at = time.monotonic()
            self._idle.append(thread)
            self._look_soon()
            return None

    def _look_soon(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(IDLE, self._sweep)
            self._timer.daemon = True
            self._timer.start()

    def _sweep(self) -> None:
        """Close what hasn't been used for a while."""
        with self._lock:
            self._timer = None
            now = time.monotonic()
            for thread in self._idle:
                if thread.used_at + IDLE <= now:
                    thread.disconnect()
            if any(thread.is_connected for thread in self._idle):
                self._look_soon()


@receiver(connection_created)
def keep(connection: Any, **kwargs: Any) -> None:
    """Have Django leave a connection open when a request ends, and see whether it still works when the next begins."""
    if here.keeps and connection.settings_dict["CONN_MAX_AGE"] == 0:
        connection.close_at = time.monotonic() + AGE
        connection.health_check_enabled = True


@receiver(request_finished)
def drop_unfinished(**kwargs: Any) -> None:
    """Leave no transaction to who comes next in this thread: Django closes no connection that is in one."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and here.keeps:
            drop(connection)


def drop(connection: Any) -> None:
    """Close a connection in the middle of a transaction; this thread's next use opens another."""
    connection.close()
    del connections[connection.alias]


def give_connections_back() -> None:
    """Close this thread's database connections: what follows takes long and needs none, or nothing follows."""
    for connection in connections.all(initialized_only=True):
        if here.keeps and connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = 0.0
        connection.close_if_unusable_or_obsolete()


def release_thread() -> None:
    """End the current request's thread, with its database connections; sync code that follows gets another.

    It would stay with the request until the response is closed: as long as a stream lives.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)
