"""The thread that writes the rows of batches, one after the other, with a connection of its own.

A server that speaks ASGI has a thread for each request, and with it a connection: to open one and close it again for
the rows of a batch took more than to write them, most of all on SQLite, which tidies up after its last connection.
"""

from collections.abc import Callable
from concurrent.futures import Future

from django.db import router, transaction

from batching.models import Batch
from wire.asgi.threads import Pool

Job = Callable[[], None]

recording = Pool(1, "batch-recorder")
# Apart from what has to be written: observers may be slow.
observing = Pool(1, "batch-observers")


def submit(job: Job) -> Future[None]:
    """Have a job done after those that came before; the future has what it raised."""
    return recording.submit(job)


def write(job: Job, seconds: float) -> None:
    """Do a job and return when it is done; in this very thread where the caller's transaction has to see it.

    Raises `TimeoutError` after so many seconds; the job is done all the same.
    """
    if transaction.get_connection(router.db_for_write(Batch)).in_atomic_block:
        job()
    else:
        submit(job).result(max(0.0, seconds))


def notify(job: Job) -> None:
    """Do a job some time soon."""
    observing.submit(job)
