"""The thread that writes the rows of batches, one batch after another, over a connection of its own.

An ASGI server has a thread for each request, and so a connection. Opening and closing one took longer than writing the
rows of a batch, most of all on SQLite, which tidies up after its last connection.
"""

from collections.abc import Callable
from concurrent.futures import Future

from django.db import router, transaction

from batching.models import Batch
from wire.asgi.threads import Pool

Job = Callable[[], None]

rows_thread = Pool(1, "batch-recorder")
# Apart from the rows: receivers of signals may be slow.
signals_thread = Pool(1, "batch-observers")


def submit(job: Job) -> Future[None]:
    """Run a job after the earlier ones; the future holds any exception."""
    return rows_thread.submit(job)


def write(job: Job, seconds: float) -> None:
    """Run a job to its end; in this very thread where the caller's transaction has to see it.

    Raises `TimeoutError` after so many seconds; the job runs all the same.
    """
    if transaction.get_connection(router.db_for_write(Batch)).in_atomic_block:
        job()
    else:
        submit(job).result(max(0.0, seconds))


def notify(job: Job) -> None:
    """Run a job soon."""
    signals_thread.submit(job)
