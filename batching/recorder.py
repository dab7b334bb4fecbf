"""The thread that writes the rows of batches, with a connection of its own that is closed once nobody needs it.

A server that speaks ASGI has a thread for each request, and with it a connection: to open one and close it again for
the rows of a batch took more than to write them, most of all on SQLite, which tidies up after its last connection. What
the threads for items keep open is closed with it.
"""

import atexit
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

from django.db import connections, router, transaction

from batching.connections import kept
from batching.models import Batch
from wire.once import once

# Seconds that connections stay open when there is nothing to write.
IDLE = 0.25
# Seconds that the end of the process waits for what is still to be written.
PATIENCE = 2.0

Job = Callable[[], None]


class Recorder:
    """Does jobs in the order in which they come, one after the other."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Job, Future[None]]] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, job: Job) -> Future[None]:
        """Have a job done; the future has what it raised."""
        done: Future[None] = Future()
        self._jobs.put((job, done))
        return done

    def _work(self) -> None:
        while True:
            job, done = self._next()
            try:
                job()
            except BaseException as error:  # it is raised where the job comes from
                connections.close_all()
                done.set_exception(error)
            else:
                done.set_result(None)
            # Held while the thread waits for the next one, it would hold a batch.
            del job, done

    def _next(self) -> tuple[Job, Future[None]]:
        with suppress(Empty):
            return self._jobs.get(timeout=IDLE)
        connections.close_all()
        kept.close()
        return self._jobs.get()


@once
def recorder(name: str, process: int) -> Recorder:
    """Return the recorder of this name and process; one that was forked needs its own."""
    made = Recorder(name)
    atexit.register(flush, made)
    return made


def flush(made: Recorder) -> None:
    with suppress(TimeoutError):
        made.submit(connections.close_all).result(timeout=PATIENCE)


def submit(job: Job, *, name: str = "batch-recorder") -> Future[None]:
    return recorder(name, os.getpid()).submit(job)


def write(job: Job, seconds: float) -> None:
    """Do a job and return when it is done; in this very thread where the caller's transaction has to see it.

    Raises `TimeoutError` after so many seconds; the job is done all the same.
    """
    if transaction.get_connection(router.db_for_write(Batch)).in_atomic_block:
        job()
    else:
        submit(job).result(max(0.0, seconds))


def look_after_connections() -> None:
    """Have connections closed that aren't used any more, unless they are again soon."""
    submit(lambda: None)


def notify(job: Job) -> None:
    """Do a job some time soon, apart from what has to be written: observers may be slow."""
    submit(job, name="batch-observers")
