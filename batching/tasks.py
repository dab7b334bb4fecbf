"""The Celery task that executes background batches; Celery's autodiscovery finds it.

A message only wakes a worker: the worker that gets one executes the next items for BATCH_SLICE seconds, and sends
another message where more may wait. A duplicate finds less to do. For a lost one, workers with a free slot look for
items by themselves.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from celery import bootsteps, shared_task
from celery.signals import worker_init
from celery.worker.state import reserved_requests

from batching.background import celery
from batching.background.engine import Engine
from batching.conf import get_settings
from batching.run import event_loop

__all__ = ["work"]

# Seconds after which a worker with a free slot looks for items again.
POLL = 5.0


@shared_task(name=celery.TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work() -> None:
    """Execute background batches for BATCH_SLICE seconds, then make way for other tasks."""
    settings = get_settings()
    made: Future[Engine] = Future()

    async def run_slice() -> bool:
        made.set_result(engine := Engine(settings))
        return await engine.run_for(settings.BATCH_SLICE)

    with ending_before_sigterm(lambda: made.result().stop()):
        may_wait = event_loop.wait(run_slice, is_asgi=False)
    if may_wait:
        celery.wake(1)


@contextmanager
def ending_before_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Let a SIGTERM, which ends a worker's process at once, stop the block first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals: list[int] = []

    def note(number: int, frame: Any) -> None:
        signals.append(number)
        stop()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if signals:
            signal.raise_signal(signal.SIGTERM)


class PollStep(bootsteps.StartStopStep):
    """Has a worker with a free slot poll regularly, in case a message was lost."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        poll(consumer)
        self.entry = consumer.timer.call_repeatedly(POLL, poll, (consumer,))

    def stop(self, consumer: Any) -> None:
        consumer.timer.cancel(self.entry)


def poll(consumer: Any) -> None:
    if len(reserved_requests) < consumer.pool.num_processes:
        celery.wake(1)


@worker_init.connect
def add_poll_step(sender: Any, **kwargs: Any) -> None:
    if get_settings().BATCH_CELERY_APP:
        sender.app.steps["consumer"].add(PollStep)
