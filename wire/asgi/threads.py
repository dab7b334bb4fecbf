"""Threads that keep their database connections for what they do next, for a moment.

Django runs the sync code of a request under ASGI in a thread that it starts for it, and in it the connection is opened
anew: that took as long as all that a view does that looks up an API key.
"""

import asyncio
import atexit
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, cast
from weakref import WeakSet

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.signals import request_finished, request_started
from django.db import connections
from django.db.backends.signals import connection_created

logger = logging.getLogger(__name__)

# Seconds without work after which a thread closes its connections, and after which it ends.
IDLE = 0.25
LIFE = 5.0
# Seconds without work after which it looks whether they still work.
STALE = 0.02
# Seconds after which the end of a request closes a connection, however much it is used.
AGE = 60.0
# Seconds that the end of the process waits for work.
PATIENCE = 20.0


class Here(threading.local):
    """Whether this thread keeps its connections for who comes next."""

    keeps = False


here = Here()


class Job(NamedTuple):
    done: Future[Any]
    work: Callable[[], Any]

    def do(self) -> Callable[[], None]:
        """Do the work and return what tells how it ended."""
        if not self.done.set_running_or_notify_cancel():
            return nothing
        try:
            return partial(self.done.set_result, self.work())
        except BaseException as error:  # it is raised where the work comes from
            return partial(self.done.set_exception, error)
        finally:
            del self  # which the error's traceback would hold


def nothing() -> None:
    pass


class Pool(Executor):
    """A few threads, started when there is work and ended when there is none. May be used from any thread.

    Of those that are idle the one that was used last is next, so that as few as it takes have a connection.
    """

    def __init__(self, size: int, name: str) -> None:
        self.name = name
        self.lent_at = math.inf
        """Since when somebody has its thread to himself and may come back to his connections (monotonic)."""
        self._size, self._numbers = size, count()
        self._renew()
        with pools_lock:
            pools.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        # How idle threads are called, and how many threads there are.
        self._idle: list[SimpleQueue[Job | None]] = []
        self._count = 0
        self._ends = False

    @property
    def is_lent(self) -> bool:
        return self.lent_at < math.inf

    @property
    def is_free(self) -> bool:
        """Whether all work is done."""
        with self._lock:
            return not self._waiting and len(self._idle) == self._count

    @property
    def is_alive(self) -> bool:
        """Whether there is a thread."""
        return self._count > 0

    def submit[**P, T](self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()
        job = Job(done, partial(work, *args, **kwargs))
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)
                return done
            if self._count < self._size:
                threading.Thread(target=self._run, name=f"{self.name}_{next(self._numbers)}", daemon=True).start()
                self._count += 1
            self._waiting.append(job)
        return done

    def sync_to_async[**P, T](self, work: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """Do as asgiref's does, here: async code that `work` calls runs in the event loop of who calls `work`."""
        # Its stub wants a ThreadPoolExecutor; it does nothing with it but to submit.
        return sync_to_async(work, thread_sensitive=False, executor=cast(ThreadPoolExecutor, self))

    async def run[T](self, work: Callable[[], T]) -> T:
        """Do `work` in a thread of the pool, with the caller's context."""
        return await asyncio.get_running_loop().run_in_executor(self, copy_context().run, work)

    def disconnect(self) -> None:
        """Close the connections of idle threads, and return when they are."""
        with self._lock:
            jobs = [Job(Future(), connections.close_all) for _ in self._idle]
            for call, job in zip(self._idle, jobs, strict=True):
                call.put(job)
            self._idle.clear()
        for job in jobs:
            job.done.result()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread as soon as no work waits. More work starts another; and nothing has to be shut down."""
        with self._lock:
            self._ends = True
            for call in self._idle:
                call.put(None)
            self._count -= len(self._idle)
            self._idle.clear()

    # In a thread of the pool.

    def _run(self) -> None:
        here.keeps = True
        connection_created.connect(keep)
        call: SimpleQueue[Job | None] = SimpleQueue()
        job = self._next(call)
        while job := job or self._awaited(call):
            tell = job.do()
            del job
            if not self.is_lent:
                tidy()
            # Whoever is told of the end finds this thread idle.
            job = self._next(call)
            tell()
            del tell
        connections.close_all()

    def _next(self, call: SimpleQueue[Job | None]) -> Job | None:
        """Return a job that waits; where none does, this thread is idle, or ends."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._ends:
                self._count -= 1
                call.put(None)
            else:
                self._idle.append(call)
            return None

    def _awaited(self, call: SimpleQueue[Job | None]) -> Job | None:
        """Return what an idle thread is called for; none where it is to end."""
        since = time.monotonic()
        job = self._called(call)
        if job and since < self.lent_at and time.monotonic() - since > STALE:
            tidy(look=True)
        return job

    def _called(self, call: SimpleQueue[Job | None]) -> Job | None:
        while True:
            try:
                return call.get(timeout=IDLE)
            except Empty:
                if not self.is_lent:
                    break
        tidy()
        give_connections_back()
        try:
            return call.get(timeout=LIFE)
        except Empty:
            with self._lock:
                if call in self._idle:
                    self._idle.remove(call)
                    self._count -= 1
                    return None
            return call.get()  # it was called just now


pools: WeakSet[Pool] = WeakSet()
pools_lock = threading.Lock()


def all_pools() -> list[Pool]:
    with pools_lock:
        return list(pools)


@atexit.register
def let_end() -> None:
    """Give what is under way some time: threads end with the process, whatever they are at."""
    end = time.monotonic() + PATIENCE
    while (busy := [pool.name for pool in all_pools() if not pool.is_free]) and time.monotonic() < end:
        time.sleep(0.01)
    if busy:
        logger.warning("threads=%s state=abandoned after=%g", ",".join(sorted(busy)), PATIENCE)


def begin_anew() -> None:
    """Have a forked child start its own threads: it hasn't those of its parent."""
    global pools_lock
    pools_lock = threading.Lock()
    for pool in all_pools():
        pool._renew()


os.register_at_fork(after_in_child=begin_anew)


class RequestThreads:
    """Those for the requests of one server, each lent to one after the other. To be used in its event loop."""

    def __init__(self) -> None:
        # In the order in which they were used.
        self._idle: deque[Pool] = deque()
        # Connected here and not at the import: a project that imports this may never have such a thread.
        for signal in (request_started, request_finished):
            signal.connect(drop_unfinished)

    def lend(self) -> ThreadSensitiveContext:
        """Return what a request's sync code finds its thread by; it is to be taken back."""
        context = ThreadSensitiveContext()
        thread = self._idle.pop() if self._idle else Pool(1, "request")
        thread.lent_at = time.monotonic()
        SyncToAsync.context_to_thread_executor[context] = thread
        return context

    def take_back(self, context: ThreadSensitiveContext) -> None:
        """Have the thread back, unless it is still at something: then it ends with it."""
        thread = SyncToAsync.context_to_thread_executor.pop(context, None)
        if isinstance(thread, Pool):
            thread.lent_at = math.inf
            if thread.is_free:
                self._idle.append(thread)
            else:
                thread.shutdown(wait=False)
        while self._idle and not self._idle[0].is_alive:
            self._idle.popleft()


def keep(connection: Any, **kwargs: Any) -> None:
    """Have Django leave a connection open when a request ends."""
    if here.keeps and connection.settings_dict["CONN_MAX_AGE"] == 0:
        connection.close_at = time.monotonic() + AGE


def drop_unfinished(**kwargs: Any) -> None:
    """Leave no transaction to who comes next in this thread: Django closes no connection that is in one."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and here.keeps:
            drop(connection)


def tidy(*, look: bool = False) -> None:
    """Leave this thread's connections as the next work may find them: those that work, after errors or at a `look`."""
    drop_unfinished()
    for connection in connections.all(initialized_only=True):
        connection.errors_occurred |= look
        close_unless_usable(connection)


def give_connections_back() -> None:
    """Close this thread's database connections: what follows takes long and needs none, or nothing follows."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:  # it is a caller's, as in a test
            continue
        if here.keeps and connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = 0.0
        close_unless_usable(connection)


def leave_connections() -> None:
    """Give this thread's database connections back, unless it keeps them for the next request."""
    if not here.keeps:
        give_connections_back()


def close_unless_usable(connection: Any) -> None:
    try:
        connection.close_if_unusable_or_obsolete()
    except Exception:
        logger.warning("connection=%s state=dropped", connection.alias, exc_info=True)
        drop(connection)


def drop(connection: Any) -> None:
    """Have nothing more to do with a connection; this thread's next use opens another."""
    with suppress(Exception):
        connection.close()
    del connections[connection.alias]


def release_thread() -> None:
    """End the current request's thread, with its database connections; sync code that follows gets another.

    It would stay with the request until the response is closed: as long as a stream lives.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)
