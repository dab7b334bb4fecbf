"""Thread pools whose threads reuse their database connections for a moment.

Under ASGI, Django starts a thread for the sync code of each request, and the thread opens a database connection. That
took as long as a view that looks up an API key.
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
# Seconds without work after which a thread checks its connections before it uses them.
STALE = 0.02
# Seconds after which the end of a request closes a connection, although it is in use.
AGE = 60.0
# Seconds that the end of the process waits for work.
PATIENCE = 20.0


class ThreadState(threading.local):
    """Whether this thread leaves its connections open for its next work."""

    reuses_connections = False


this_thread = ThreadState()


class Job(NamedTuple):
    done: Future[Any]
    work: Callable[[], Any]

    def run(self) -> Callable[[], None]:
        """Do the work and return a function that sets the result."""
        if not self.done.set_running_or_notify_cancel():
            return do_nothing
        try:
            return partial(self.done.set_result, self.work())
        except BaseException as error:  # the caller of `submit` gets it
            return partial(self.done.set_exception, error)
        finally:
            del self  # the error's traceback would refer to it


def do_nothing() -> None:
    pass


class Pool(Executor):
    """A few threads, which start when there is work and end without. It is thread-safe.

    The idle thread that was used last is the next to work, so that few threads have a connection.
    """

    def __init__(self, size: int, name: str) -> None:
        self.name = name
        self.acquired_at = math.inf
        """When a request acquired its only thread, whose connections it may use again (monotonic)."""
        self._size, self._numbers = size, count()
        self._renew()
        with pools_lock:
            pools.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[Job] = deque()
        # The queues on which idle threads wait for a job, and the number of all threads.
        self._idle: list[SimpleQueue[Job | None]] = []
        self._count = 0
        self._ends = False

    @property
    def is_acquired(self) -> bool:
        return self.acquired_at < math.inf

    @property
    def is_idle(self) -> bool:
        """Whether no work waits or runs."""
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
        """Do as asgiref's, in this pool: async code that `work` calls runs in the event loop of the caller."""
        # The stub asks for a ThreadPoolExecutor; asgiref only submits to it.
        return sync_to_async(work, thread_sensitive=False, executor=cast(ThreadPoolExecutor, self))

    async def run[T](self, work: Callable[[], T]) -> T:
        """Do `work` in a thread of the pool, with the caller's context."""
        return await asyncio.get_running_loop().run_in_executor(self, copy_context().run, work)

    def disconnect(self) -> None:
        """Close the connections of idle threads, and return when they are."""
        with self._lock:
            jobs = [Job(Future(), connections.close_all) for _ in self._idle]
            for queue, job in zip(self._idle, jobs, strict=True):
                queue.put(job)
            self._idle.clear()
        for job in jobs:
            job.done.result()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End each thread as soon as no work waits. Later work starts another; a pool needs no shutdown."""
        with self._lock:
            self._ends = True
            for queue in self._idle:
                queue.put(None)
            self._count -= len(self._idle)
            self._idle.clear()

    # In a thread of the pool.

    def _run(self) -> None:
        this_thread.reuses_connections = True
        connection_created.connect(leave_open)
        queue: SimpleQueue[Job | None] = SimpleQueue()
        job = self._next(queue)
        while job := job or self._wait(queue):
            set_result = job.run()
            del job
            if not self.is_acquired:
                reset_connections()
            # A caller that gets the result finds this thread idle.
            job = self._next(queue)
            set_result()
            del set_result
        connections.close_all()

    def _next(self, queue: SimpleQueue[Job | None]) -> Job | None:
        """Return a job that waits. Without one, mark this thread as idle, or have it end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            if self._ends:
                self._count -= 1
                queue.put(None)
            else:
                self._idle.append(queue)
            return None

    def _wait(self, queue: SimpleQueue[Job | None]) -> Job | None:
        """Return the next job of an idle thread; None where the thread has to end."""
        since = time.monotonic()
        job = self._receive(queue)
        if job and since < self.acquired_at and time.monotonic() - since > STALE:
            reset_connections(check=True)
        return job

    def _receive(self, queue: SimpleQueue[Job | None]) -> Job | None:
        while True:
            try:
                return queue.get(timeout=IDLE)
            except Empty:
                if not self.is_acquired:
                    break
        reset_connections()
        give_connections_back()
        try:
            return queue.get(timeout=LIFE)
        except Empty:
            with self._lock:
                if queue in self._idle:
                    self._idle.remove(queue)
                    self._count -= 1
                    return None
            return queue.get()  # a job was submitted just now


pools: WeakSet[Pool] = WeakSet()
pools_lock = threading.Lock()


def all_pools() -> list[Pool]:
    with pools_lock:
        return list(pools)


@atexit.register
def wait_for_work() -> None:
    """Wait for a while until no work runs: the end of the process ends its threads."""
    end = time.monotonic() + PATIENCE
    while (busy := [pool.name for pool in all_pools() if not pool.is_idle]) and time.monotonic() < end:
        time.sleep(0.01)
    if busy:
        logger.warning("threads=%s state=abandoned after=%g", ",".join(sorted(busy)), PATIENCE)


def reset_after_fork() -> None:
    """Have a forked child start its own threads: it has none of its parent's."""
    global pools_lock
    pools_lock = threading.Lock()
    for pool in all_pools():
        pool._renew()


os.register_at_fork(after_in_child=reset_after_fork)


class RequestThreads:
    """The threads for the requests of one server; a thread serves one request after the other.

    Use it in the server's event loop.
    """

    def __init__(self) -> None:
        # In the order of their last use.
        self._idle: deque[Pool] = deque()
        # Not connected at the import: a project that imports this module may never have such a thread.
        for signal in (request_started, request_finished):
            signal.connect(drop_open_transactions)

    def acquire(self) -> ThreadSensitiveContext:
        """Return the context by which a request's sync code finds its thread. The caller has to release it."""
        context = ThreadSensitiveContext()
        thread = self._idle.pop() if self._idle else Pool(1, "request")
        thread.acquired_at = time.monotonic()
        SyncToAsync.context_to_thread_executor[context] = thread
        return context

    def release(self, context: ThreadSensitiveContext) -> None:
        """Make the thread free for other requests, unless it still works: then it ends after that work."""
        thread = SyncToAsync.context_to_thread_executor.pop(context, None)
        if isinstance(thread, Pool):
            thread.acquired_at = math.inf
            if thread.is_idle:
                self._idle.append(thread)
            else:
                thread.shutdown(wait=False)
        while self._idle and not self._idle[0].is_alive:
            self._idle.popleft()


def leave_open(connection: Any, **kwargs: Any) -> None:
    """Have Django leave a connection open when a request ends."""
    if this_thread.reuses_connections and connection.settings_dict["CONN_MAX_AGE"] == 0:
        connection.close_at = time.monotonic() + AGE


def drop_open_transactions(**kwargs: Any) -> None:
    """Leave no transaction to this thread's next work: Django doesn't close a connection that is in one."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and this_thread.reuses_connections:
            drop(connection)


def reset_connections(*, check: bool = False) -> None:
    """Prepare this thread's connections for its next work: drop transactions, close those that fail after an error.

    With `check`, each connection is tried.
    """
    drop_open_transactions()
    for connection in connections.all(initialized_only=True):
        connection.errors_occurred |= check
        close_unless_usable(connection)


def give_connections_back() -> None:
    """Close this thread's database connections before long work that needs none, or at the end of all work."""
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:  # the caller's transaction, as in a test
            continue
        if this_thread.reuses_connections and connection.settings_dict["CONN_MAX_AGE"] == 0:
            connection.close_at = 0.0
        close_unless_usable(connection)


def leave_connections() -> None:
    """Close this thread's database connections, unless its next request reuses them."""
    if not this_thread.reuses_connections:
        give_connections_back()


def close_unless_usable(connection: Any) -> None:
    try:
        connection.close_if_unusable_or_obsolete()
    except Exception:
        logger.warning("connection=%s state=dropped", connection.alias, exc_info=True)
        drop(connection)


def drop(connection: Any) -> None:
    """Forget a connection, which may fail to close. This thread's next use opens another."""
    with suppress(Exception):
        connection.close()
    del connections[connection.alias]


def release_thread() -> None:
    """End the current request's thread, with its database connections. Later sync code gets another.

    Otherwise the thread stays until the response is closed, which for a stream takes long.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor:
        executor.submit(connections.close_all)
        executor.shutdown(wait=False)
