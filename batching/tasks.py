"""The task with which Celery's workers work on background batches; Celery finds it by its autodiscovery.

A message is a wake-up and a place in the line, no more: whoever gets one works for BATCH_SLICE seconds on what is next,
and passes it on where more may wait. One that comes twice finds less to do. One that was lost is made up for by workers
that have a place free, and look.
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

# Seconds between two looks of a worker that has a place free.
LOOK = 5.0


@shared_task(name=celery.TASK, acks_late=True, reject_on_worker_lost=True, ignore_result=True)
def work() -> None:
    """Work on background batches for a while, then let the next in the line."""
    settings = get_settings()
    making: Future[Engine] = Future()

    async def take_turn() -> bool:
        making.set_result(engine := Engine(settings))
        return await engine.run_for(settings.BATCH_SLICE)

    with ending_before_sigterm(lambda: making.result().stop()):
        goes_on = event_loop.wait(take_turn, in_server=False)
    if goes_on:
        celery.wake(1)


@contextmanager
def ending_before_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Have a SIGTERM, which would end a worker's process at once, end the block first."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: Any) -> None:
        came.append(number)
        stop()

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


class Look(bootsteps.StartStopStep):
    """Has a worker with a place free look for work at times, whatever became of the messages."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        look(consumer)
        self.entry = consumer.timer.call_repeatedly(LOOK, look, (consumer,))

    def stop(self, consumer: Any) -> None:
        consumer.timer.cancel(self.entry)


def look(consumer: Any) -> None:
    if len(reserved_requests) < consumer.pool.num_processes:
        celery.wake(1)


@worker_init.connect
def add_look(sender: Any, **kwargs: Any) -> None:
    if get_settings().BATCH_CELERY_APP:
        sender.app.steps["consumer"].add(Look)
